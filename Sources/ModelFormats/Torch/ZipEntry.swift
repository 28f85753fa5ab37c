internal import Kernels

/// An entry as a ZIP archive's directory lists it.
struct ZipEntry {
  let name: String
  private let nameBytes: [UInt8]
  private let size: UInt64
  private let offset: UInt64

  /// Reads the next entry of the directory.
  init(_ directory: inout ByteReader) throws(CheckpointError) {
    try directory.signature(0x0201_4B50, of: "an entry of the ZIP directory")
    _ = try directory.skip(2)
    let header = try ZipHeader(&directory)
    let commentSize = try directory.integer(byteCount: 2)
    let disk = try directory.integer(byteCount: 2)
    _ = try directory.skip(6)
    let narrowOffset = try directory.integer(byteCount: 4)
    nameBytes = try directory.bytes(header.nameSize)
    guard let name = Self.name(nameBytes) else {
      throw .malformed(
        file: directory.file,
        reason: "an entry is called '\(String(decoding: nameBytes, as: UTF8.self))', expected a path inside the archive"
      )
    }
    try header.checkPlain(name, file: directory.file)
    var wide = try Zip64Numbers(directory.part(header.extraSize))
    size = try wide.widen(header.size)
    let storedSize = try wide.widen(header.storedSize)
    offset = try wide.widen(narrowOffset)
    _ = try directory.skip(commentSize)
    guard storedSize == size, disk == 0 else {
      throw .malformed(file: directory.file, reason: "the entry '\(name)' stores \(storedSize) bytes for \(size)")
    }
    self.name = name
  }

  /// Checks the entry's own header against the directory.
  ///
  /// - Parameter end: Where all entries end.
  /// - Returns: The bytes of header and data, and those of the data alone.
  func locate(
    in archive: SharedBytes, before end: Int, file: String
  ) throws(CheckpointError) -> (extent: Range<Int>, data: Range<Int>) {
    guard offset < UInt64(end) else {
      throw .malformed(file: file, reason: "the entry '\(name)' lies at byte \(offset), expected it before byte \(end)")
    }
    var reader = ByteReader(archive, Int(offset)..<end, file: file)
    try reader.signature(0x0403_4B50, of: "the header of '\(name)'")
    let header = try ZipHeader(&reader)
    try header.checkPlain(name, file: file)
    guard try reader.bytes(header.nameSize) == nameBytes else {
      throw .malformed(file: file, reason: "the entry '\(name)' has another name in its own header")
    }
    var wide = try Zip64Numbers(reader.part(header.extraSize))
    for narrow in [header.size, header.storedSize] {
      let found = try wide.widen(narrow)
      guard found == size || header.isStreamed && found == 0 else {
        throw .malformed(file: file, reason: "the entry '\(name)' has \(size) bytes, but \(found) by its own header")
      }
    }
    guard size <= UInt64(reader.rest.count) else {
      throw .malformed(
        file: file,
        reason:
          "the entry '\(name)' has \(size) bytes at byte \(reader.rest.lowerBound), expected it to end before byte \(end)"
      )
    }
    let data = try reader.skip(size)
    return (Int(offset)..<data.upperBound, data)
  }

  /// The name, if it is that of a file inside the archive's folder.
  private static func name(_ bytes: [UInt8]) -> String? {
    guard let name = String(validating: bytes, as: UTF8.self), !bytes.contains(UInt8(ascii: "\\")), !bytes.contains(0)
    else { return nil }
    // Bytes, not characters: a slash with a combining accent is another character.
    let parts = bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    return parts.contains { $0.isEmpty || $0.elementsEqual(".".utf8) || $0.elementsEqual("..".utf8) } ? nil : name
  }
}
