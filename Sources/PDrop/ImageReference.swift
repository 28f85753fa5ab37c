import Foundation
public import Storage

extension Request.Image {
  /// The image of a reference: a path, a `file:` URL, a base64 `data:` URL, or bare base64.
  ///
  /// Bare base64 must begin like a JPEG, PNG or WebP file and must not be an existing path.
  ///
  /// - Parameters:
  ///   - reference: The path, URL or base64 text.
  ///   - folder: The folder of relative paths.
  /// - Throws: `ImageReferenceError` for an empty reference, for other URLs, which are never fetched, and for data that
  ///   are not base64.
  public init(reference: String, folder: String? = nil) throws(ImageReferenceError) {
    guard !reference.utf8.allSatisfy({ $0 == 0x20 || (0x09...0x0D).contains($0) }) else { throw .empty }
    // The system would read such a path only up to the null character.
    guard !reference.utf8.prefix(Self.maxPathLength + 1).contains(0) else { throw .invalidPath(reference: reference) }
    let path = Self.path(reference, in: folder)
    switch Self.scheme(of: reference) {
    case "data": self = try Self.data(reference)
    case "file":
      let path = try Self.filePath(reference)
      guard !path.utf8.contains(0) else { throw .invalidPath(reference: reference) }
      self = .file(path)
    case .some: throw .remote(reference: reference)
    case nil:
      if let bytes = Self.bareData(reference), !FileManager.default.fileExists(atPath: path) {
        self = .encoded(bytes, name: "base64 data")
      } else if reference.utf8.count > Self.maxPathLength {
        throw .malformedData(start: String(reference.prefix(40)))
      } else {
        self = .file(path)
      }
    }
  }

  /// Maximum length of a path in bytes; no system has longer ones.
  private static let maxPathLength = 4096

  /// The scheme of a URL, in lower case.
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

  /// The image of a URL `data:[type][;parameter…];base64,…`; case is ignored.
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

  /// The bytes of an image in bare base64; `nil` for any other text.
  private static func bareData(_ reference: String) -> [UInt8]? {
    // The signatures of the three formats in base64. A text below 64 bytes is a path, as no image is so short.
    let starts = ["/9j/", "iVBORw0KGgo", "UklGR"]
    guard reference.utf8.count >= 64, starts.contains(where: reference.hasPrefix) else { return nil }
    return Base64.bytes(of: reference[...])
  }
}

/// Lenient base64, as clients send it.
private enum Base64 {
  /// The decoded bytes; `nil` if the text is not base64.
  ///
  /// White space is ignored, `-` and `_` are accepted for `+` and `/`, percent escapes are decoded, and padding may be
  /// missing.
  static func bytes(of text: Substring) -> [UInt8]? {
    var characters: [UInt8] = []
    characters.reserveCapacity(text.utf8.count + 3)
    let unescaped = text.utf8.contains(UInt8(ascii: "%")) ? text.removingPercentEncoding : String(text)
    guard let unescaped else { return nil }
    for character in unescaped.utf8 {
      switch character {
      case UInt8(ascii: " "), 0x09...0x0D: continue
      case UInt8(ascii: "-"): characters.append(UInt8(ascii: "+"))
      case UInt8(ascii: "_"): characters.append(UInt8(ascii: "/"))
      default: characters.append(character)
      }
    }
    while characters.last == UInt8(ascii: "=") { characters.removeLast() }
    characters += Array(repeating: UInt8(ascii: "="), count: (4 - characters.count % 4) % 4)
    return Data(base64Encoded: Data(characters)).map { [UInt8]($0) }
  }
}

/// A reference to an image that leads nowhere.
public enum ImageReferenceError: UserFacingError, Equatable {
  /// The reference is empty or white space.
  case empty
  /// A path with a null character, which no file has.
  case invalidPath(reference: String)
  case remote(reference: String)
  /// A reference that is not allowed here.
  case refused(reference: String, reason: String)
  case malformedData(start: String)

  public var category: ErrorCategory { .resource }
  public var problem: String {
    switch self {
    case .empty: "the path of the image is empty; give the path of a file"
    case .invalidPath(let reference): "\(reference.excerpt): no such file; a path has no null characters"
    case .remote(let reference):
      "\(reference.excerpt): images are not fetched from a network; download it and give its path"
    case .refused(let reference, let reason): "\(reference.excerpt): \(reason)"
    case .malformedData(let start):
      "\((start + "…").excerpt): expected a data URL such as data:image/png;base64,…, found something else"
    }
  }
}
