package import Kernels

/// The tensors of a file that torch.save wrote: a ZIP archive with a pickle and a record for every storage.
///
/// The pickle is read, not run: it may name a handful of functions, which are known here, and nothing else. Tensors that
/// cannot be used are refused when somebody asks for them: a buffer of whole numbers does no harm, nor do the projections
/// of a converted CLIP, which are stored transposed and which LLaVA leaves alone.
///
/// Source: PyTorch's `torch/serialization.py` and `caffe2/serialize/inline_container.h`, format since PyTorch 1.6.
package struct TorchArchive: WeightFile {
  package let path: String
  package let records: [String: WeightRecord]
  package let storage: SharedBytes

  /// - Throws: `CheckpointError` naming the file, what is wrong with it and, where there is one, the command that converts it.
  package init(_ path: String) throws(CheckpointError) {
    do { storage = try SharedBytes(mapping: path) } catch { throw .file(error) }
    self.path = path
    try FilePointer.refuse(storage, file: path)
    try Self.refuseOlderFormats(storage, file: path)
    let archive = try ZipArchive(storage, file: path)
    if let range = archive["byteorder"], storage.copy(range.prefix(16)) != Array("little".utf8) {
      throw .convertible(file: path, reason: "numbers have their high byte first, expected their low byte")
    }
    guard let range = archive["data.pkl"] else {
      throw .malformed(
        file: path, reason: "an archive without '\(archive.folder)/data.pkl', expected one of torch.save")
    }
    let (value, objects) = try PickleReader.read(ByteReader(storage, range, file: path))
    records = try StateDictionary(value, objects, file: path).records(archive)
  }

  /// Refuses what PyTorch wrote before it wrote ZIP archives.
  private static func refuseOlderFormats(_ bytes: SharedBytes, file: String) throws(CheckpointError) {
    // A pickle of protocol 2 that holds PyTorch's magic number, 0x1950A86A20F9469CFC6C.
    let magic: [UInt8] = [0x80, 2, 0x8A, 10, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19]
    if bytes.copy(0..<min(magic.count, bytes.count)) == magic {
      throw .convertible(
        file: file, reason: "written in the format of PyTorch before 1.6, expected the ZIP archive since")
    }
    if bytes.count >= 512, bytes.copy(257..<262) == Array("ustar".utf8) {
      throw .malformed(
        file: file, reason: "written in the format of PyTorch before 0.2, expected the ZIP archive since 1.6")
    }
  }
}
