import Foundation

// Files around the bytes under test, so that mutations reach the reader of these bytes.

/// A stored ZIP archive of torch.save with a pickle and one storage of 64 bytes.
func zipArchive(ofPickle pickle: [UInt8]) -> [UInt8] {
  var (entries, directory): ([UInt8], [UInt8]) = ([], [])
  let contents = [
    ("a/data.pkl", pickle), ("a/version", Array("3\n".utf8)), ("a/data/0", [UInt8](repeating: 0, count: 64)),
  ]
  for (name, bytes) in contents {
    let common: [UInt8] =
      [0, 0, 0, 0, 0, 0, 0, 0] + [0, 0, 0, 0] + little(bytes.count, 4) + little(bytes.count, 4)
      + little(name.utf8.count, 2) + little(0, 2)
    directory += [0x50, 0x4B, 1, 2, 0, 0, 0, 0] + common + [UInt8](repeating: 0, count: 10) + little(entries.count, 4)
    directory += Array(name.utf8)
    entries += [0x50, 0x4B, 3, 4, 0, 0] + common + Array(name.utf8) + bytes
  }
  return entries + directory + [0x50, 0x4B, 5, 6, 0, 0, 0, 0] + little(contents.count, 2) + little(contents.count, 2)
    + little(directory.count, 4) + little(entries.count, 4) + [0, 0]
}

private func little(_ value: Int, _ count: Int) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
}
private func big(_ value: Int, _ count: Int) -> [UInt8] { little(value, count).reversed() }

// MARK: - PNG

/// The bytes with a right checksum after every chunk.
func withChecksums(png bytes: [UInt8]) -> [UInt8] {
  var (bytes, start) = (bytes, 8)
  while start + 12 <= bytes.count {
    let size = bytes[start..<start + 4].reduce(0) { $0 << 8 | Int($1) }
    guard size <= bytes.count - start - 12 else { break }
    let end = start + 8 + size
    bytes.replaceSubrange(end..<end + 4, with: big(Int(checksum(bytes[start + 4..<end])), 4))
    start = end + 4
  }
  return bytes
}

private func chunk(_ kind: String, _ data: [UInt8]) -> [UInt8] {
  let content = Array(kind.utf8) + data
  return big(data.count, 4) + content + big(Int(checksum(content[...])), 4)
}

private let checksumTable: [UInt32] = (0..<256).map { byte in
  (0..<8).reduce(UInt32(byte)) { value, _ in value & 1 == 1 ? 0xEDB8_8320 ^ value >> 1 : value >> 1 }
}

/// The CRC-32 of a chunk.
private func checksum(_ bytes: ArraySlice<UInt8>) -> UInt32 {
  ~bytes.reduce(~0 as UInt32) { checksumTable[Int(UInt8(truncatingIfNeeded: $0) ^ $1)] ^ $0 >> 8 }
}

// MARK: - Images with metadata

/// An image of 4 x 2 pixels with metadata in one of the places where readers look for the orientation.
func smallImage(place: UInt8, metadata: [UInt8]) -> [UInt8] {
  switch place % 8 {
  case 0: jpeg(application: Array("Exif\0\0".utf8) + metadata)
  case 1: jpeg(application: Array("http://ns.adobe.com/xap/1.0/\0".utf8) + metadata)
  case 2: inserted(metadata, at: 2, in: smallJPEG)
  case 3: png(chunk("eXIf", metadata))
  case 4: png(chunk("iTXt", Array("XML:com.adobe.xmp\0\0\0\0\0".utf8) + metadata))
  case 5: png(chunk("tEXt", Array("Raw profile type exif\0".utf8) + metadata))
  case 6: webp(kind: "EXIF", metadata)
  default: webp(kind: "XMP ", metadata)
  }
}

private func jpeg(application data: [UInt8]) -> [UInt8] {
  inserted([0xFF, 0xE1] + big(data.count + 2, 2) + data, at: 2, in: smallJPEG)
}

/// The chunk comes after the header, before the pixels.
private func png(_ chunk: [UInt8]) -> [UInt8] { inserted(chunk, at: 33, in: smallPNG) }

private func webp(kind: String, _ data: [UInt8]) -> [UInt8] {
  let flags: UInt8 = kind == "EXIF" ? 8 : 4
  let header = Array("VP8X".utf8) + little(10, 4) + [flags, 0, 0, 0] + little(3, 3) + little(1, 3)
  let padding = [UInt8](repeating: 0, count: data.count % 2)
  let body =
    Array("WEBP".utf8) + header + smallWebP.dropFirst(12) + Array(kind.utf8) + little(data.count, 4) + data + padding
  return Array("RIFF".utf8) + little(body.count, 4) + body
}

private func inserted(_ bytes: [UInt8], at offset: Int, in file: [UInt8]) -> [UInt8] {
  var file = file
  file.insert(contentsOf: bytes, at: offset)
  return file
}

private let smallJPEG = decoded(
  """
  /9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBkeFxl
  Z2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2P/wAARCAACAAQDASIA
  AhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAT/xAAaEAACAgMAAAAAAAAAAAAAAAAAAgEDEiKR/8QAFQEBAQAAAAAAAAAAAAAAAAAABAX/xAAaEQAC
  AgMAAAAAAAAAAAAAAAAAAgEDMTNx/9oADAMBAAIRAxEAPwCO2x853boAJK4gRTrXh//Z
  """)
private let smallPNG = decoded(
  "iVBORw0KGgoAAAANSUhEUgAAAAQAAAACCAIAAADwyuo0AAAAFklEQVR4nGNk+M8g94gdglgqOmTgHABsTQhLXJDlQgAAAABJRU5ErkJggg==")
private let smallWebP = decoded("UklGRjAAAABXRUJQVlA4TCQAAAAvA0AAAD+gkG0EyF9zIvdCjMcczH+K7CEQIGMLWrRoEdH/wAY=")

private func decoded(_ base64: String) -> [UInt8] {
  [UInt8](Data(base64Encoded: base64, options: .ignoreUnknownCharacters) ?? Data())
}
