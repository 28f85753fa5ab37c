internal import Kernels

extension Checkpoint {
  /// A checksum that tells whether weights converted from these files are still theirs.
  ///
  /// It covers every tensor's name, type, shape and place, and of its bytes the first, the middle and the last 4 KiB; and
  /// every file's size and modification time. So it changes whenever a file is written to, replaced or downloaded anew, and
  /// for another fine-tuning of the same model even where sizes and times agree. It does not read all bytes, which for 14 GB
  /// would take longer than the rest of the start: a file edited in between the samples whose time has been set back goes
  /// unnoticed.
  var contentKey: String {
    var lines: [String] = []
    for (name, entry) in tensors.sorted(by: { $0.key < $1.key }) {
      guard let record = entry.file.records[entry.storedName] else { continue }
      let samples = Self.samples(of: record.bytes).map { entry.file.storage.checksum($0) }
      let storage = entry.file.storage
      lines.append(
        "\(name) \(record.elementName) \(record.shape) \(record.strides ?? []) \(record.bytes) \(samples) "
          + "\(storage.count) \(storage.modificationTime ?? 0)")
    }
    return SharedBytes.checksum(of: lines.joined(separator: "\n"))
  }

  private static func samples(of bytes: Range<Int>) -> [Range<Int>] {
    let size = min(4096, bytes.count)
    let starts = [bytes.lowerBound, bytes.lowerBound + (bytes.count - size) / 2, bytes.upperBound - size]
    return starts.map { $0..<$0 + size }
  }
}

extension ModelDirectory {
  /// A checksum that tells whether a picture's features still are what this model sees: of the weights as above, its tower's
  /// included, and of the files that say how pictures are prepared and how the tower computes.
  package var contentKey: String {
    let directories = [path] + (tower.directory.map { [$0] } ?? [])
    let settings = directories.flatMap { directory in
      ["config.json", "preprocessor_config.json", "processor_config.json"].map { name in
        (try? SharedBytes(mapping: directory + "/" + name)).map { "\(name) \($0.count) \($0.checksum)" } ?? "no \(name)"
      }
    }
    let weights = [checkpoint.contentKey] + (tower.checkpoint.map { [$0.contentKey] } ?? [])
    return SharedBytes.checksum(of: (weights + settings).joined(separator: "\n"))
  }
}

extension SharedBytes {
  /// The checksum of a text in UTF-8, as 16 hexadecimal digits.
  package static func checksum(of text: String) -> String {
    let digits = String(SharedBytes(copying: Array(text.utf8)).checksum, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}
