/// The orientation of an image: the rotation or flip that displays it upright.
///
/// The raw values are those of the Exif tag 0x0112.
enum ExifOrientation: Int {
  case upright = 1
  case flippedHorizontally, rotated180, flippedVertically, transposed, rotatedClockwise, transversed
  case rotatedCounterclockwise

  /// The orientation of an encoded JPEG, PNG or WebP image by its Exif data, or by its XMP data if those have none;
  /// `nil` without a valid one.
  ///
  /// Source: `Image.getexif` in Pillow 13, whose rules decide which spellings count.
  init?(encodedImage bytes: [UInt8]) {
    let metadata = ImageMetadata(encodedImage: bytes)
    switch metadata.exif.map(ExifOrientation.tag) ?? .missing {
    case .missing:
      guard let value = metadata.xmp.flatMap(ExifOrientation.xmpValue) else { return nil }
      self.init(rawValue: value)
    case .number(let value): self.init(rawValue: value)
    case .invalid: return nil
    }
  }

  /// The orientation in Exif data.
  private enum Tag {
    case missing
    case number(Int)
    /// Not a number, or data that are not Exif; XMP is not searched then.
    case invalid
  }

  /// The orientation tag in the first directory of Exif data, with or without their name.
  private static func tag(_ bytes: [UInt8]) -> Tag {
    let name = Array("Exif\0\0".utf8)
    var block = bytes[...]
    for _ in 0..<2 where block.starts(with: name) { block = block.dropFirst(name.count) }
    guard !block.isEmpty else { return .missing }
    // Two forms have the bytes of the number 42 exchanged.
    let heads: [[UInt8]] = [
      [0x4D, 0x4D, 0, 0x2A], [0x49, 0x49, 0x2A, 0], [0x4D, 0x4D, 0x2A, 0], [0x49, 0x49, 0, 0x2A],
      [0x4D, 0x4D, 0, 0x2B],
    ]
    guard heads.contains(where: block.starts), block.count >= 8 else { return .invalid }
    let reader = ByteReader(block, isLittleEndian: block.first == 0x49)
    guard let directory = reader.number(4, size: 4), let count = reader.number(directory, size: 2) else {
      return .missing
    }
    var found: Set<Int> = []
    var outsideBytes = 0
    for entry in 0..<count {
      let offset = directory + 2 + 12 * entry
      guard let tag = reader.number(offset, size: 2), let type = reader.number(offset + 2, size: 2),
        let valueCount = reader.number(offset + 4, size: 4), reader.number(offset + 8, size: 4) != nil
      else { break }
      guard !found.contains(tag), let type = TagType(rawValue: type) else { continue }
      let size = valueCount * type.size
      var start = offset + 8
      if size > 4 {
        outsideBytes += size
        if outsideBytes > block.count { continue }
        start = reader.number(offset + 8, size: 4) ?? 0
        // A value outside the data ends the directory.
        guard start <= block.count - size else { break }
      }
      guard size > 0 else { continue }
      found.insert(tag)
      if tag == 0x0112 { return type.value(reader, at: start).map(Tag.number) ?? .invalid }
    }
    return .missing
  }

  /// The digit after `tiff:Orientation="` or `tiff:Orientation>`.
  private static func xmpValue(_ bytes: [UInt8]) -> Int? {
    let name = Array("tiff:Orientation".utf8)
    var rest = bytes[...]
    while let match = rest.firstRange(of: name) {
      rest = rest[match.upperBound...]
      let start = rest.starts(with: "=\"".utf8) ? 2 : rest.starts(with: ">".utf8) ? 1 : 0
      if start > 0, let digit = rest.dropFirst(start).first, (0x30...0x39).contains(digit) { return Int(digit) - 0x30 }
    }
    return nil
  }
}

/// The data type of an Exif tag.
private enum TagType: Int {
  case byte = 1
  case text, unsigned16, unsigned32, unsignedRational, signed8, undefined, signed16, signed32, signedRational
  case float, double, directory
  case unsigned64 = 16

  /// Bytes of a value.
  var size: Int {
    switch self {
    case .byte, .text, .signed8, .undefined: 1
    case .unsigned16, .signed16: 2
    case .unsigned32, .signed32, .float, .directory: 4
    case .unsignedRational, .signedRational, .double, .unsigned64: 8
    }
  }

  /// The integer at an offset; `nil` for a type that is not a number, and for a fraction.
  func value(_ reader: ByteReader, at offset: Int) -> Int? {
    guard let bits = reader.number(offset, size: min(size, 4)) else { return nil }
    let other = size == 8 ? reader.number(offset + 4, size: 4) ?? 0 : 0
    switch self {
    case .byte, .text, .undefined: return nil
    case .unsigned16, .unsigned32, .directory: return bits
    case .signed8: return Int(Int8(truncatingIfNeeded: bits))
    case .signed16: return Int(Int16(truncatingIfNeeded: bits))
    case .signed32: return Int(Int32(truncatingIfNeeded: bits))
    case .float: return Int(exactly: Float(bitPattern: UInt32(truncatingIfNeeded: bits)))
    case .double:
      let (high, low) = reader.isLittleEndian ? (other, bits) : (bits, other)
      return Int(exactly: Double(bitPattern: UInt64(high) << 32 | UInt64(low)))
    case .unsigned64:
      let (high, low) = reader.isLittleEndian ? (other, bits) : (bits, other)
      return high == 0 ? low : nil
    case .unsignedRational: return Self.quotient(bits, other)
    case .signedRational:
      return Self.quotient(Int(Int32(truncatingIfNeeded: bits)), Int(Int32(truncatingIfNeeded: other)))
    }
  }

  private static func quotient(_ numerator: Int, _ denominator: Int) -> Int? {
    denominator != 0 && numerator % denominator == 0 ? numerator / denominator : nil
  }
}

extension Image {
  /// The upright image, equal to that of Pillow's `ImageOps.exif_transpose`.
  func oriented(_ orientation: ExifOrientation) -> Image {
    // The first pixel of the result in the image, and the distances to the next in its row and in its column.
    let (right, bottom) = (width - 1, (height - 1) * width)
    let (first, columnStep, rowStep) =
      switch orientation {
      case .upright: (0, 1, width)
      case .flippedHorizontally: (right, -1, width)
      case .rotated180: (bottom + right, -1, -width)
      case .flippedVertically: (bottom, 1, -width)
      case .transposed: (0, width, 1)
      case .rotatedClockwise: (bottom, -width, 1)
      case .transversed: (bottom + right, -width, -1)
      case .rotatedCounterclockwise: (right, width, -1)
      }
    guard orientation != .upright else { return self }
    let (newWidth, newHeight) = orientation.rawValue >= 5 ? (height, width) : (width, height)
    var rotated = [UInt8](repeating: 0, count: pixels.count)
    let source = pixels.span
    var target = rotated.mutableSpan
    // In blocks that fit in the cache, because rows become columns.
    let side = 64
    for top in stride(from: 0, to: newHeight, by: side) {
      for left in stride(from: 0, to: newWidth, by: side) {
        for y in top..<min(top + side, newHeight) {
          for x in left..<min(left + side, newWidth) {
            let from = 3 * (first + x * columnStep + y * rowStep)
            let to = 3 * (y * newWidth + x)
            target[to] = source[from]
            target[to + 1] = source[from + 1]
            target[to + 2] = source[from + 2]
          }
        }
      }
    }
    // Never throws: the sides and the count are those of a valid image.
    return (try? Image(width: newWidth, height: newHeight, pixels: rotated)) ?? self
  }
}
