internal import Kernels

/// The entries of a ZIP archive that only stores: where the bytes of each lie in the file.
///
/// Nothing is unpacked. Whatever torch.save does not write is refused: compression, encryption, names that leave the folder,
/// entries that overlap, a directory and headers that disagree. The checksums are not looked at, since that would read all
/// weights, and PyTorch can be told to leave them out.
///
/// Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.5.3.
struct ZipArchive {
  private var entries: [String: Range<Int>] = [:]
  /// The folder of the first entry, in which PyTorch looks for everything.
  let folder: String

  init(_ bytes: SharedBytes, file: String) throws(CheckpointError) {
    let directory = try ZipDirectory(bytes, file: file)
    var reader = ByteReader(bytes, directory.range, file: file)
    var extents: [(name: String, bytes: Range<Int>)] = []
    for _ in 0..<directory.entryCount {
      let entry = try ZipEntry(&reader)
      let (extent, data) = try entry.locate(in: bytes, before: directory.range.lowerBound, file: file)
      guard entries.updateValue(data, forKey: entry.name) == nil else {
        throw .malformed(file: file, reason: "the entry '\(entry.name)' occurs twice")
      }
      extents.append((entry.name, extent))
    }
    guard reader.rest.isEmpty else { throw reader.fault("the end of the directory") }
    folder = extents.first.map { String($0.name.prefix { $0 != "/" }) } ?? ""
    var end = 0
    for extent in extents.sorted(by: { $0.bytes.lowerBound < $1.bytes.lowerBound }) {
      guard extent.bytes.lowerBound >= end else {
        throw .malformed(file: file, reason: "the entry '\(extent.name)' overlaps another")
      }
      end = extent.bytes.upperBound
    }
  }

  /// Where an entry's data lie, by its name in the folder.
  subscript(name: String) -> Range<Int>? { entries[folder + "/" + name] }
}
