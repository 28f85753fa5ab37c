/// The file formats that are read.
public enum ImageFormat: String, Sendable, CaseIterable {
  case jpeg = "JPEG"
  case png = "PNG"
  case webP = "WebP"

  /// The format that the first bytes of a file announce, or nil.
  init?(signature bytes: [UInt8]) {
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

  /// The name of a picture format that is recognised but not read, or nil.
  static func unsupportedName(signature bytes: [UInt8]) -> String? {
    if bytes.dropFirst(4).starts(with: "ftyp".utf8) { return mediaName(brands: bytes) }
    if let other = others.first(where: { bytes.starts(with: $0.signature) }) { return other.name }
    return isSVG(bytes) ? "SVG" : nil
  }

  private static let others: [(name: String, signature: [UInt8])] = [
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
  ]

  /// What a file of boxes holds, by the brands of its first box: the major one, a version, then compatible ones.
  private static func mediaName(brands bytes: [UInt8]) -> String? {
    let end = min(bytes.count, max(12, Int(bytes[2]) << 8 | Int(bytes[3])), 256)
    let brands = stride(from: 8, to: end - 3, by: 4).filter { $0 != 12 }.map {
      String(decoding: bytes[$0..<$0 + 4], as: UTF8.self)
    }
    // The brands mif1 and msf1 are of pictures in either coding.
    if brands.contains(where: { $0.hasPrefix("avi") }) { return "AVIF" }
    if brands.contains(where: { $0.hasPrefix("he") || $0.hasPrefix("mif") || $0.hasPrefix("msf") }) { return "HEIC" }
    return nil
  }

  /// Whether a text is a drawing: its first element is `svg`, which declarations and comments may precede.
  private static func isSVG(_ bytes: [UInt8]) -> Bool {
    let text = String(decoding: bytes.prefix(4096), as: UTF8.self)
    guard text.first(where: { !$0.isWhitespace && $0 != "\u{FEFF}" }) == "<" else { return false }
    let element = text.replacing(/<!--(?s:.*?)-->/, with: "").firstMatch(of: /<([A-Za-z][\w:.]*)/)
    return element.map { $0.1.lowercased() == "svg" || $0.1.lowercased().hasSuffix(":svg") } ?? false
  }
}
