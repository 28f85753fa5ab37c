import Storage

/// The supported file formats.
public enum ImageFormat: String, Sendable, CaseIterable {
  case jpeg = "JPEG"
  case png = "PNG"
  case webP = "WebP"

  /// The format of a file by its first bytes; nil for other formats.
  package init?(signature bytes: [UInt8]) {
    if bytes.starts(with: [0xFF, 0xD8, 0xFF]) {
      self = .jpeg
    } else if bytes.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) {
      self = .png
    } else if bytes.starts(with: "RIFF".utf8), bytes.dropFirst(8).starts(with: "WEBP".utf8) {
      self = .webP
    } else {
      return nil
    }
  }
}

/// The kind of a file that is not a JPEG, PNG or WebP image, by its first bytes.
package enum OtherFile: Equatable {
  /// An image of another format, or a document that can be converted to an image.
  case image(String)
  /// Something else, such as an error page that was saved under the name of an image.
  case notAnImage(String)
  case gitLFSPointer

  /// `nil` for an unknown kind.
  package init?(_ bytes: [UInt8]) {
    if GitLFSPointer.isFound(bytes) {
      self = .gitLFSPointer
    } else if bytes.dropFirst(4).starts(with: "ftyp".utf8) {
      guard let name = Self.mediaName(brands: bytes) else { return nil }
      self = name == "video" ? .notAnImage("a video") : .image(name)
    } else if let image = Self.images.first(where: { bytes.starts(with: $0.signature) }) {
      self = .image(image.name)
    } else if let other = Self.others.first(where: { bytes.starts(with: $0.signature) }) {
      self = .notAnImage(other.name)
    } else if bytes.count >= 8, bytes.prefix(4096).allSatisfy({ $0 == 0 }) {
      self = .notAnImage("a file of zero bytes, as of an interrupted download")
    } else if let kind = Self.markup(bytes) ?? Self.json(bytes) {
      self = kind
    } else {
      return nil
    }
  }

  private static let images: [(name: String, signature: [UInt8])] = [
    ("GIF", Array("GIF8".utf8)),
    ("BMP", Array("BM".utf8)),
    ("TIFF", Array("II*\0".utf8)),
    ("TIFF", Array("MM\0*".utf8)),
    ("TIFF", Array("II+\0".utf8)),
    ("TIFF", Array("MM\0+".utf8)),
    ("JPEG XL", [0xFF, 0x0A]),
    ("JPEG XL", [0, 0, 0, 0x0C, 0x4A, 0x58, 0x4C, 0x20]),
    ("JPEG 2000", [0, 0, 0, 0x0C, 0x6A, 0x50, 0x20, 0x20]),
    ("JPEG 2000", [0xFF, 0x4F, 0xFF, 0x51]),
    ("icon", [0, 0, 1, 0]),
    ("Photoshop", Array("8BPS".utf8)),
    ("PDF", Array("%PDF".utf8)),
    ("PostScript", Array("%!PS".utf8)),
    ("DirectDraw Surface", Array("DDS ".utf8)),
    ("camera raw", Array("FUJIFILM".utf8)),
    ("portable pixmap", Array("P6\n".utf8)),
    ("portable graymap", Array("P5\n".utf8)),
  ]

  private static let others: [(name: String, signature: [UInt8])] = [
    ("a ZIP archive", [0x50, 0x4B, 0x03, 0x04]),
    ("an empty ZIP archive", [0x50, 0x4B, 0x05, 0x06]),
    ("a gzip file", [0x1F, 0x8B]),
    ("a bzip2 file", Array("BZh".utf8)),
    ("an xz file", [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0]),
    ("a Zstandard file", [0x28, 0xB5, 0x2F, 0xFD]),
    ("a 7z archive", [0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C]),
    ("a RAR archive", Array("Rar!".utf8)),
    ("a Parquet file", Array("PAR1".utf8)),
    ("an HDF5 file", [0x89, 0x48, 0x44, 0x46]),
    ("a NumPy array", [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59]),
    ("a program", [0x7F, 0x45, 0x4C, 0x46]),
    ("a Matroska video", [0x1A, 0x45, 0xDF, 0xA3]),
    ("UTF-16 text", [0xFF, 0xFE]),
    ("UTF-16 text", [0xFE, 0xFF]),
  ]

  /// The image format of an ISO media file by the brands of its first box: major brand, version, compatible brands.
  private static func mediaName(brands bytes: [UInt8]) -> String? {
    let end = min(bytes.count, max(12, Int(bytes[2]) << 8 | Int(bytes[3])), 256)
    let brands = stride(from: 8, to: end - 3, by: 4).filter { $0 != 12 }.map {
      String(decoding: bytes[$0..<$0 + 4], as: UTF8.self)
    }
    // The brands mif1 and msf1 are used by both formats.
    if brands.contains(where: { $0.hasPrefix("avi") }) { return "AVIF" }
    if brands.contains(where: { $0.hasPrefix("he") || $0.hasPrefix("mif") || $0.hasPrefix("msf") }) { return "HEIC" }
    if brands.contains("crx ") { return "camera raw" }
    let videos = ["isom", "iso2", "mp41", "mp42", "avc1", "qt  ", "M4V ", "3gp4", "3gp5"]
    return brands.contains(where: videos.contains) ? "video" : nil
  }

  /// The kind of a text with tags, by its first element after declarations and comments.
  private static func markup(_ bytes: [UInt8]) -> OtherFile? {
    let text = String(decoding: bytes.prefix(4096), as: UTF8.self)
    guard let first = text.firstIndex(where: { !$0.isWhitespace && $0 != "\u{FEFF}" }), text[first] == "<" else {
      return nil
    }
    let rest = text[first...].replacing(/<!--(?s:.*?)-->/, with: "").lowercased()
    let element = rest.firstMatch(of: /<([a-z][\w:.]*)/).map { String($0.1) }
    if let element, element == "svg" || element.hasSuffix(":svg") { return .image("SVG") }
    let pageElements: Set = ["html", "head", "body", "title", "meta", "script", "center", "div", "p", "h1"]
    if rest.contains("<!doctype html") || element.map(pageElements.contains) == true {
      return .notAnImage("a web page (HTML)")
    }
    return rest.hasPrefix("<?xml") || element != nil ? .notAnImage("XML text") : nil
  }

  private static func json(_ bytes: [UInt8]) -> OtherFile? {
    let text = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? bytes.dropFirst(3) : bytes[...]
    let visible = text.prefix(256).filter { $0 > 0x20 }
    guard let first = visible.first, visible.count >= 2 else { return nil }
    let next = visible[1]
    let isDigit = (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(next)
    switch first {
    case UInt8(ascii: "{"):
      return next == UInt8(ascii: "\"") || next == UInt8(ascii: "}") ? .notAnImage("JSON text") : nil
    case UInt8(ascii: "["):
      return "{[\"]-".utf8.contains(next) || isDigit ? .notAnImage("JSON text") : nil
    default: return nil
    }
  }
}
