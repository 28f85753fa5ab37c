/// The Exif orientation of an image: the rotation or flip that displays it upright.
///
/// The raw values are those of the Exif tag 0x0112.
enum ExifOrientation: Int {
  case upright = 1
  case flippedHorizontally, rotated180, flippedVertically, transposed, rotatedClockwise, transversed
  case rotatedCounterclockwise

  /// The orientation of an encoded JPEG, PNG or WebP image; `nil` without a valid one.
  init?(encodedImage bytes: [UInt8]) {
    let file = ExifReader(bytes: bytes[...])
    guard let exif = file.jpegExif() ?? file.pngExif() ?? file.webPExif() else { return nil }
    guard let value = exif.orientationTag() else { return nil }
    self.init(rawValue: value)
  }
}

extension Image {
  /// The upright image, equal to that of Pillow's `ImageOps.exif_transpose`.
  func oriented(_ orientation: ExifOrientation) -> Image {
    guard orientation != .upright else { return self }
    let swapsSides = orientation.rawValue >= 5
    let (newWidth, newHeight) = swapsSides ? (height, width) : (width, height)
    var rotated = [UInt8](repeating: 0, count: pixels.count)
    for y in 0..<newHeight {
      for x in 0..<newWidth {
        let (column, row) =
          switch orientation {
          case .upright: (x, y)
          case .flippedHorizontally: (width - 1 - x, y)
          case .rotated180: (width - 1 - x, height - 1 - y)
          case .flippedVertically: (x, height - 1 - y)
          case .transposed: (y, x)
          case .rotatedClockwise: (y, height - 1 - x)
          case .transversed: (width - 1 - y, height - 1 - x)
          case .rotatedCounterclockwise: (width - 1 - y, x)
          }
        for c in 0..<3 { rotated[(y * newWidth + x) * 3 + c] = pixels[(row * width + column) * 3 + c] }
      }
    }
    // Never throws: the sides and the count are those of a valid image.
    return (try? Image(width: newWidth, height: newHeight, pixels: rotated)) ?? self
  }
}

/// A random-access reader of Exif data in an encoded image; nil for anything outside the bytes.
private struct ExifReader {
  var bytes: ArraySlice<UInt8>
  var isLittleEndian = false

  /// The unsigned number of `size` bytes at `offset`; nil if it is out of bounds.
  func number(_ offset: Int, size: Int) -> Int? {
    guard offset >= 0, size <= bytes.count, offset <= bytes.count - size else { return nil }
    let start = bytes.startIndex + offset
    let part = bytes[start..<start + size]
    return (isLittleEndian ? Array(part.reversed()) : Array(part)).reduce(0) { $0 << 8 | Int($1) }
  }

  func has(_ text: String, at offset: Int) -> Bool {
    offset >= 0 && bytes.dropFirst(offset).starts(with: text.utf8)
  }

  /// The part of at most `count` bytes from `offset`; empty for a negative count, of a block shorter than its own name.
  private func part(_ offset: Int, _ count: Int) -> ExifReader {
    ExifReader(bytes: bytes.dropFirst(offset).prefix(max(0, count)))
  }

  /// The Exif block of a JPEG: the first APP1 segment named `Exif` before the image data.
  func jpegExif() -> ExifReader? {
    guard number(0, size: 2) == 0xFFD8 else { return nil }
    var offset = 2
    while let marker = number(offset, size: 2), marker >= 0xFFC0, marker != 0xFFDA,
      let length = number(offset + 2, size: 2), length >= 2
    {
      if marker == 0xFFE1, has("Exif\0\0", at: offset + 4) { return part(offset + 10, length - 8) }
      offset += 2 + length
    }
    return nil
  }

  /// The `eXIf` chunk of a PNG.
  func pngExif() -> ExifReader? {
    guard has("PNG", at: 1) else { return nil }
    var offset = 8
    while let length = number(offset, size: 4) {
      if has("eXIf", at: offset + 4) { return part(offset + 8, length) }
      offset += 12 + length
    }
    return nil
  }

  /// The `EXIF` chunk of a WebP.
  func webPExif() -> ExifReader? {
    guard has("RIFF", at: 0), has("WEBP", at: 8) else { return nil }
    let file = ExifReader(bytes: bytes, isLittleEndian: true)
    var offset = 12
    while let length = file.number(offset + 4, size: 4) {
      if has("EXIF", at: offset) {
        let start = has("Exif\0\0", at: offset + 8) ? offset + 14 : offset + 8
        return part(start, length - (start - offset - 8))
      }
      offset += 8 + length + length % 2
    }
    return nil
  }

  /// The orientation tag in the first directory of an Exif block.
  func orientationTag() -> Int? {
    var tiff = self
    tiff.isLittleEndian = has("II", at: 0)
    guard tiff.isLittleEndian || has("MM", at: 0), tiff.number(2, size: 2) == 42,
      let directory = tiff.number(4, size: 4), let count = tiff.number(directory, size: 2)
    else { return nil }
    for entry in 0..<count {
      let offset = directory + 2 + 12 * entry
      guard let tag = tiff.number(offset, size: 2) else { return nil }
      // Type 3 is a 16-bit number.
      if tag == 0x0112, tiff.number(offset + 2, size: 2) == 3 { return tiff.number(offset + 8, size: 2) }
    }
    return nil
  }
}
