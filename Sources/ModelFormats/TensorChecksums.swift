internal import Kernels

/// The checksums at the end of a safetensors file of ours, its last tensor: `xxh64` in `U64`, which has that of the header with
/// its size, then that of each tensor before it.
enum TensorChecksums {
  static let name = "xxh64"

  /// A part of a file, and its checksum as the file says.
  struct Piece {
    var name: String
    var bytes: Range<Int>
    var checksum: UInt64
  }

  /// The header and the tensors in the order of the file; `nil` where there is not a checksum for each.
  static func pieces(of file: SafetensorsFile) -> [Piece]? {
    let tensors = file.records.sorted { $0.value.bytes.lowerBound < $1.value.bytes.lowerBound }
    guard let last = tensors.last, last.key == name, last.value.elementName == "U64",
      last.value.shape == [tensors.count]
    else { return nil }
    let pieces =
      [("the header", 0..<file.payload.lowerBound)] + tensors.dropLast().map { ("'\($0.key)'", $0.value.bytes) }
    return zip(pieces, file.storage.words(last.value.bytes)).map { Piece(name: $0.0, bytes: $0.1, checksum: $1) }
  }

  /// The bytes of a whole file.
  ///
  /// - Parameters:
  ///   - header: Of the tensors; that of the checksums is added here.
  ///   - alignment: The tensors begin at a multiple of so many bytes.
  ///   - path: The file, for errors.
  static func file(
    _ header: SafetensorsHeader, _ tensors: [SharedBytes], alignment: Int, path: String, _ workers: Workers
  ) throws(FileError) -> [SharedBytes] {
    var header = header
    let count = 1 + tensors.count
    header.add(name, "U64", [count], byteCount: 8 * count)
    let front: SharedBytes
    do { front = SharedBytes(copying: try header.encoded(alignment: alignment)) } catch {
      throw .unwritable(path: path, reason: "\(error)")
    }
    let checksums = SharedBytes.checksums(of: [front] + tensors, workers: workers)
    return [front] + tensors + [SharedBytes(copying: checksums.map(\.littleEndian))]
  }
}

extension SharedBytes {
  /// 64-bit numbers, low byte first.
  fileprivate func words(_ range: Range<Int>) -> [UInt64] {
    let bytes = copy(range)
    return stride(from: 0, to: bytes.count - 7, by: 8).map { start in
      bytes[start..<start + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
  }
}
