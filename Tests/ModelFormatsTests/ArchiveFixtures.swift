/// ZIP archives with arbitrary, possibly inconsistent fields.
enum ArchiveFixtures {
  /// An entry, with overrides for the fields of its two headers.
  struct Entry {
    var name: String
    var data: [UInt8]
    var local = Header()
    var central = Header()

    init(_ name: String, _ data: [UInt8] = [], local: Header = Header(), central: Header = Header()) {
      self.name = name
      self.data = data
      self.local = local
      self.central = central
    }
  }

  struct Header {
    var signature: [UInt8]?
    var name: [UInt8]?
    var flags = 0
    var method = 0
    var size: UInt64?
    var storedSize: UInt64?
    var offset: UInt64?
    var disk = 0
    var extra: [UInt8] = []
  }

  /// Overrides for the records at the end.
  struct End {
    var disk: UInt64 = 0
    var entriesHere: UInt64?
    var entries: UInt64?
    var size: UInt64?
    var offset: UInt64?
    var comment: [UInt8] = []
    var gap: [UInt8] = []
    var zip64: Zip64?
  }

  /// Overrides for the ZIP64 records.
  struct Zip64 {
    var start: UInt64?
    var recordSize: UInt64 = 44
    var entries: UInt64?
    var size: UInt64?
    var offset: UInt64?
  }

  static func file(_ entries: [Entry], end: End = End()) -> [UInt8] {
    var bytes: [UInt8] = []
    var directory: [UInt8] = []
    for entry in entries {
      let (offset, name) = (UInt64(bytes.count), Array(entry.name.utf8))
      let (local, central) = (entry.local, entry.central)
      bytes += local.signature ?? [0x50, 0x4B, 3, 4]
      bytes += common(local, entry) + (local.name ?? name) + local.extra + entry.data
      directory += (central.signature ?? [0x50, 0x4B, 1, 2]) + little(0, 2)
      directory += common(central, entry) + little(0, 2) + little(UInt64(central.disk), 2) + little(0, 6)
      directory += little(central.offset ?? offset, 4) + (central.name ?? name) + central.extra
    }
    let (start, count) = (UInt64(bytes.count), UInt64(entries.count))
    bytes += directory + end.gap
    if let zip64 = end.zip64 {
      let record = UInt64(bytes.count)
      bytes += [0x50, 0x4B, 6, 6] + little(zip64.recordSize, 8) + little(0, 12)
      bytes += little(zip64.entries ?? count, 8) + little(zip64.entries ?? count, 8)
      bytes += little(zip64.size ?? UInt64(directory.count), 8) + little(zip64.offset ?? start, 8)
      bytes += [0x50, 0x4B, 6, 7] + little(0, 4) + little(zip64.start ?? record, 8) + little(1, 4)
    }
    bytes += [0x50, 0x4B, 5, 6] + little(end.disk, 2) + little(0, 2)
    bytes += little(end.entriesHere ?? end.entries ?? count, 2) + little(end.entries ?? count, 2)
    bytes += little(end.size ?? UInt64(directory.count), 4) + little(end.offset ?? start, 4)
    return bytes + little(UInt64(end.comment.count), 2) + end.comment
  }

  /// A little-endian number.
  static func little(_ value: UInt64, _ count: Int) -> [UInt8] {
    (0..<count).map { $0 < 8 ? UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) : 0 }
  }

  private static func common(_ header: Header, _ entry: Entry) -> [UInt8] {
    let size = UInt64(entry.data.count)
    return little(0, 2) + little(UInt64(header.flags), 2) + little(UInt64(header.method), 2) + little(0, 8)
      + little(header.storedSize ?? size, 4) + little(header.size ?? size, 4)
      + little(UInt64(header.name?.count ?? entry.name.utf8.count), 2) + little(UInt64(header.extra.count), 2)
  }
}
