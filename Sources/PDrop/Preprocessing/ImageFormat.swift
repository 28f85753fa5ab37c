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
    if bytes.dropFirst(4).starts(with: "ftyp".utf8) {
      let brand = String(decoding: bytes.dropFirst(8).prefix(4), as: UTF8.self)
      if brand.hasPrefix("avi") { return "AVIF" }
      return brand.hasPrefix("he") || brand.hasPrefix("mif") || brand.hasPrefix("msf") ? "HEIC" : nil
    }
    return others.first { bytes.starts(with: $0.signature) }?.name
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
    ("icon", [0, 0, 1, 0]),
    ("Photoshop", Array("8BPS".utf8)),
    ("PDF", Array("%PDF".utf8)),
    ("SVG", Array("<svg".utf8)),
  ]
}
