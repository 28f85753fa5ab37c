import Foundation
public import Storage

extension Request.Image {
  /// The image that a reference names: a path, a `file:` URL, a `data:` URL in base64, or bare base64 that begins as a
  /// JPEG, PNG or WebP file does and is no existing path.
  ///
  /// - Parameter folder: Where relative paths begin.
  /// - Throws: `ImageReferenceError` for other URLs, which are never fetched, and for data that are not base64.
  public init(reference: String, folder: String? = nil) throws(ImageReferenceError) {
    let path = Self.path(reference, in: folder)
    switch Self.scheme(of: reference) {
    case "data": self = try Self.data(reference)
    case "file": self = .file(try Self.filePath(reference))
    case .some: throw .remote(reference: reference)
    case nil:
      if let bytes = Self.bareData(reference), !FileManager.default.fileExists(atPath: path) {
        self = .encoded(bytes, name: "base64 data")
      } else if reference.utf8.count > Self.longestPath {
        throw .malformedData(start: String(reference.prefix(40)))
      } else {
        self = .file(path)
      }
    }
  }

  /// In bytes; what is longer names no file on any system.
  private static let longestPath = 4096

  /// What stands before the colon of a URL, in small letters.
  private static func scheme(of reference: String) -> String? {
    guard let colon = reference.utf8.prefix(16).firstIndex(of: UInt8(ascii: ":")) else { return nil }
    let scheme = reference[..<colon].lowercased()
    if scheme == "data" || scheme == "file" { return scheme }
    let isWord =
      scheme.first?.isLetter ?? false && scheme.allSatisfy { $0.isLetter || $0.isNumber || "+-.".contains($0) }
    return isWord && reference[colon...].hasPrefix("://") ? scheme : nil
  }

  private static func path(_ reference: String, in folder: String?) -> String {
    guard let folder, !reference.hasPrefix("/") else { return reference }
    return folder + "/" + reference
  }

  /// The path in `file:///a%20b`, `file://localhost/a` or `file:/a`.
  private static func filePath(_ reference: String) throws(ImageReferenceError) -> String {
    var rest = reference.dropFirst("file:".count)
    if rest.hasPrefix("//") {
      rest = rest.dropFirst(2)
      let host = rest.prefix { $0 != "/" }
      guard host.isEmpty || host.lowercased() == "localhost" else { throw .remote(reference: reference) }
      rest = rest.dropFirst(host.count)
    }
    return rest.removingPercentEncoding ?? String(rest)
  }

  /// `data:[type][;parameter…];base64,…`, in capitals or small letters.
  private static func data(_ reference: String) throws(ImageReferenceError) -> Self {
    let rest = reference.dropFirst("data:".count)
    let header = rest.prefix(200).prefix { $0 != "," }
    let parts = header.split(separator: ";", omittingEmptySubsequences: false).map {
      $0.trimmingCharacters(in: .whitespaces).lowercased()
    }
    guard header.endIndex < rest.endIndex, rest[header.endIndex] == ",", parts.count > 1, parts.last == "base64",
      let bytes = Base64.bytes(of: rest[header.endIndex...].dropFirst())
    else { throw .malformedData(start: String(reference.prefix(40))) }
    return .encoded(bytes, name: (parts[0].isEmpty ? "" : parts[0].prefix(40) + " ") + "data")
  }

  /// The bytes of bare base64 of an image; `nil` for what cannot be that.
  private static func bareData(_ reference: String) -> [UInt8]? {
    // How the three formats' signatures come out in base64; no image is as short as a path may well be.
    let starts = ["/9j/", "iVBORw0KGgo", "UklGR"]
    guard reference.utf8.count >= 64, starts.contains(where: reference.hasPrefix) else { return nil }
    return Base64.bytes(of: reference[...])
  }
}

/// Base64 as clients send it.
private enum Base64 {
  /// The bytes that a text spells; `nil` unless it is base64.
  ///
  /// White space may stand anywhere, `-` and `_` for `+` and `/`, percent escapes for any sign; padding may be missing.
  static func bytes(of text: Substring) -> [UInt8]? {
    var signs: [UInt8] = []
    signs.reserveCapacity(text.utf8.count + 3)
    let unescaped = text.utf8.contains(UInt8(ascii: "%")) ? text.removingPercentEncoding : String(text)
    guard let unescaped else { return nil }
    for sign in unescaped.utf8 {
      switch sign {
      case UInt8(ascii: " "), 0x09...0x0D: continue
      case UInt8(ascii: "-"): signs.append(UInt8(ascii: "+"))
      case UInt8(ascii: "_"): signs.append(UInt8(ascii: "/"))
      default: signs.append(sign)
      }
    }
    while signs.last == UInt8(ascii: "=") { signs.removeLast() }
    signs += Array(repeating: UInt8(ascii: "="), count: (4 - signs.count % 4) % 4)
    return Data(base64Encoded: Data(signs)).map { [UInt8]($0) }
  }
}

/// A reference to an image that leads nowhere.
public enum ImageReferenceError: UserFacingError, Equatable {
  case remote(reference: String)
  case malformedData(start: String)

  public var category: ErrorCategory { .resource }
  public var problem: String {
    switch self {
    case .remote(let reference):
      "\(reference.prefix(80)): images are not fetched from a network; download it and give its path"
    case .malformedData(let start):
      "\(start)…: expected a data URL such as data:image/png;base64,…, found something else"
    }
  }
}
