internal import Foundation

extension Request.Picture {
  /// The picture that a path, a `file://` URL or a `data:` URL names.
  ///
  /// - Parameter folder: Where relative paths begin.
  /// - Throws: `PictureReferenceError` for other URLs, which are never fetched, and for data that are not base64.
  public init(reference: String, folder: String? = nil) throws(PictureReferenceError) {
    if reference.hasPrefix("data:") {
      let parts = reference.dropFirst(5).split(separator: ",", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2, parts[0].hasSuffix(";base64"),
        let data = Data(base64Encoded: String(parts[1]), options: .ignoreUnknownCharacters)
      else { throw .malformedData(start: String(reference.prefix(40))) }
      self = .encoded([UInt8](data), name: String(parts[0].prefix(40)) + " data")
    } else if let scheme = Self.scheme(of: reference) {
      guard scheme == "file", let url = URL(string: reference) else { throw .remote(reference: reference) }
      self = .file(url.path(percentEncoded: false))
    } else if let folder, !reference.hasPrefix("/") {
      self = .file(folder + "/" + reference)
    } else {
      self = .file(reference)
    }
  }

  /// The part in front of `://`, in lower case.
  private static func scheme(of reference: String) -> String? {
    guard let end = reference.range(of: "://") else { return nil }
    let scheme = reference[..<end.lowerBound].lowercased()
    return scheme.allSatisfy { $0.isLetter } && !scheme.isEmpty ? scheme : nil
  }
}

/// A reference to a picture that leads nowhere.
public enum PictureReferenceError: Error, Equatable, CustomStringConvertible {
  case remote(reference: String)
  case malformedData(start: String)

  public var description: String {
    switch self {
    case .remote(let reference):
      "\(reference.prefix(80)): pictures are not fetched from a network; download it and give its path"
    case .malformedData(let start):
      "\(start)…: expected a data URL such as data:image/png;base64,…, found something else"
    }
  }
}
