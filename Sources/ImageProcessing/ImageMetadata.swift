/// The Exif and XMP data of an encoded image; `nil` where it has none.
///
/// Pillow's rules decide which spellings count: a JPEG may have several Exif segments, and a PNG has Exif data in a
/// chunk or, in hexadecimal digits, in a text.
struct ImageMetadata {
  /// Exif data, with or without the name `Exif` at their start.
  private(set) var exif: [UInt8]?
  private(set) var xmp: [UInt8]?

  init(encodedImage bytes: [UInt8]) {
    switch ImageFormat(signature: bytes) {
    case .jpeg: readJPEG(bytes)
    case .png: readPNG(bytes)
    case .webP: readWebP(bytes)
    case nil: break
    }
  }

  /// Reads the segments before the image data. Several Exif segments are one block; of XMP the last one counts.
  private mutating func readJPEG(_ bytes: [UInt8]) {
    let exifName = Array("Exif\0\0".utf8)
    let xmpName = Array("http://ns.adobe.com/xap/1.0/\0".utf8)
    var offset = 2
    while true {
      // Stray bytes between segments, and fill bytes before a marker, are skipped.
      while offset < bytes.count, bytes[offset] != 0xFF { offset += 1 }
      while offset < bytes.count, bytes[offset] == 0xFF { offset += 1 }
      guard offset < bytes.count else { return }
      let marker = bytes[offset]
      offset += 1
      // Markers without a length.
      if marker == 0 || marker == 0xC8 || (0xD0...0xD9).contains(marker) || (0xF0...0xFD).contains(marker) { continue }
      guard marker >= 0xC0, marker != 0xDA, offset + 2 <= bytes.count else { return }
      let end = offset + max(2, Int(bytes[offset]) << 8 | Int(bytes[offset + 1]))
      guard end <= bytes.count else { return }
      let segment = bytes[offset + 2..<end]
      offset = end
      guard marker == 0xE1 else { continue }
      if segment.starts(with: exifName) {
        if exif == nil { exif = Array(segment) } else { exif?.append(contentsOf: segment.dropFirst(exifName.count)) }
      } else if segment.starts(with: xmpName) {
        xmp = Array(segment.dropFirst(xmpName.count))
      }
    }
  }

  /// Reads all chunks, also those after the image data.
  private mutating func readPNG(_ bytes: [UInt8]) {
    let reader = ByteReader(bytes[...])
    var profile: [UInt8]?
    var offset = 8
    while let length = reader.number(offset, size: 4), offset + 12 + length <= bytes.count + 4 {
      let chunk = bytes[offset + 8..<offset + 8 + length]
      if reader.has("eXIf", at: offset + 4) {
        exif = Array(chunk)
      } else if let text = Self.text(chunk, isNamed: { reader.has($0, at: offset + 4) }) {
        switch text.keyword {
        case "exif": exif = text.isCompressed ? [0] : text.value
        case "Raw profile type exif": profile = text.value
        case "XML:com.adobe.xmp": xmp = text.value
        default: break
        }
      }
      offset += 12 + length
    }
    // An invalid profile counts as invalid Exif data.
    if exif == nil, let profile { exif = Self.hexadecimal(profile) ?? [0] }
  }

  private struct Text {
    var keyword: String
    var value: [UInt8]
    /// Whether the chunk is a compressed or an international text.
    var isCompressed: Bool
  }

  /// Maximum size of a text.
  private static let textLimit = 1 << 20

  /// The text of a chunk; `nil` for other chunks and damaged ones.
  private static func text(_ chunk: ArraySlice<UInt8>, isNamed: (String) -> Bool) -> Text? {
    guard isNamed("tEXt") || isNamed("zTXt") || isNamed("iTXt"), let zero = chunk.firstIndex(of: 0) else { return nil }
    let keyword = String(decoding: chunk[..<zero], as: UTF8.self)
    // Only these texts matter, so that others are not decompressed.
    guard ["exif", "Raw profile type exif", "XML:com.adobe.xmp"].contains(keyword) else { return nil }
    var rest = chunk[(zero + 1)...]
    if isNamed("tEXt") { return Text(keyword: keyword, value: Array(rest), isCompressed: false) }
    guard let flag = rest.popFirst() else { return nil }
    var isDeflated = true
    if isNamed("iTXt") {
      guard let method = rest.popFirst(), flag == 0 || method == 0 else { return nil }
      isDeflated = flag != 0
      for _ in 0..<2 {
        guard let end = rest.firstIndex(of: 0) else { return nil }
        rest = rest[(end + 1)...]
      }
    }
    guard let value = isDeflated ? inflated(rest, limit: textLimit) : Array(rest) else { return nil }
    return Text(keyword: keyword, value: value, isCompressed: true)
  }

  /// The bytes of hexadecimal digits from the fourth line on; `nil` if there are other characters.
  private static func hexadecimal(_ text: [UInt8]) -> [UInt8]? {
    let lines = text.split(separator: 0x0A, maxSplits: 3, omittingEmptySubsequences: false)
    guard lines.count == 4 else { return [] }
    var digits = lines[3].filter { $0 != 0x0A }[...]
    var bytes: [UInt8] = []
    while true {
      digits = digits.drop { $0 == 0x20 || (0x09...0x0D).contains($0) }
      if digits.isEmpty { return bytes }
      guard let high = digits.popFirst(), let low = digits.popFirst(),
        let byte = UInt8(String(decoding: [high, low], as: UTF8.self), radix: 16), high != UInt8(ascii: "+")
      else { return nil }
      bytes.append(byte)
    }
  }

  /// Reads the chunks that the header announces; the first of each kind counts.
  private mutating func readWebP(_ bytes: [UInt8]) {
    let reader = ByteReader(bytes[...], isLittleEndian: true)
    guard let size = reader.number(4, size: 4), reader.has("VP8X", at: 12), let flags = reader.number(20, size: 1)
    else {
      return
    }
    let end = min(bytes.count, 8 + size)
    var offset = 12
    while let length = reader.number(offset + 4, size: 4), offset + 8 + length <= end {
      let chunk = bytes[offset + 8..<offset + 8 + length]
      if reader.has("EXIF", at: offset), flags & 0x08 != 0, exif == nil { exif = Array(chunk) }
      if reader.has("XMP ", at: offset), flags & 0x04 != 0, xmp == nil { xmp = Array(chunk) }
      offset += 8 + length + length % 2
    }
  }
}

/// A random-access reader of numbers; `nil` for anything outside the bytes.
struct ByteReader {
  private let bytes: ArraySlice<UInt8>
  let isLittleEndian: Bool

  init(_ bytes: ArraySlice<UInt8>, isLittleEndian: Bool = false) {
    (self.bytes, self.isLittleEndian) = (bytes, isLittleEndian)
  }

  /// The unsigned number of `size` bytes, at most 4, at `offset`.
  func number(_ offset: Int, size: Int) -> Int? {
    guard offset >= 0, size <= bytes.count, offset <= bytes.count - size else { return nil }
    var result = 0
    for i in 0..<size {
      let byte = Int(bytes[bytes.startIndex + offset + i])
      result |= byte << (8 * (isLittleEndian ? i : size - 1 - i))
    }
    return result
  }

  func has(_ text: String, at offset: Int) -> Bool {
    offset >= 0 && bytes.dropFirst(offset).starts(with: text.utf8)
  }
}
