import Foundation
import Kernels
import ModelFormats
import Storage
import TestSupport
import Testing

private typealias A = ArchiveFixtures
private typealias F = TorchFixtures

/// Malformed ZIP archives.
@Suite struct HostileArchiveTests {
  private static let pickle = F.pickle(F.dictionary([("a", F.tensor(F.storage(), shape: [2], strides: [1]))]))
  private static let data = [UInt8](0..<8)
  private static let members = F.entries(pickle, ["0": data])
  private static let max32 = UInt64(UInt32.max)

  /// The file with a change in the entry of the storage.
  private static func entry(_ change: (inout A.Entry) -> Void) -> [UInt8] {
    var members = members
    change(&members[1])
    return A.file(members)
  }

  /// The file with a change in the records at the end.
  private static func end(_ change: (inout A.End) -> Void) -> [UInt8] {
    var end = A.End()
    change(&end)
    return A.file(members, end: end)
  }

  private static func zip64(_ change: (inout A.Zip64) -> Void) -> [UInt8] {
    end {
      var zip64 = A.Zip64()
      change(&zip64)
      $0 = A.End(entries: 0xFFFF, size: max32, offset: max32, zip64: zip64)
    }
  }

  /// An extra field with the ZIP64 values of an entry.
  private static func extra(_ numbers: UInt64...) -> [UInt8] {
    A.little(1, 2) + A.little(UInt64(8 * numbers.count), 2) + numbers.flatMap { A.little($0, 8) }
  }

  private static func named(_ name: String) -> [UInt8] { A.file(members + [A.Entry(name)]) }

  private static let valid: [(String, [UInt8])] = [
    ("plain", A.file(members)),
    ("a comment", end { $0.comment = Array("PK\u{5}\u{6} comment".utf8) }),
    ("ZIP64 records", zip64 { _ in }),
    ("ZIP64 records that are not needed", end { $0.zip64 = A.Zip64() }),
    (
      "ZIP64 sizes",
      entry {
        $0.central = A.Header(size: max32, storedSize: max32, extra: extra(8, 8))
        $0.local = A.Header(size: max32, storedSize: max32, extra: extra(8, 8))
      }
    ),
    (
      "sizes after the data",
      entry {
        ($0.local.flags, $0.local.size, $0.local.storedSize, $0.central.flags) = (8, 0, 0, 8)
      }
    ),
    ("padding", entry { $0.local.extra = [0x46, 0x42, 3, 0, 0x5A, 0x5A, 0x5A] }),
  ]

  @Test(arguments: valid)
  func `reads a valid archive`(label: String, bytes: [UInt8]) throws {
    let folder = try TemporaryFolder()
    let archive = try TorchArchive(folder.write("a.bin", bytes))
    #expect(try archive.tensor("a").floats().map(\.bitPattern) == [0x0302_0100, 0x0706_0504])
  }

  /// The defect, the file, and words of the one-line error.
  private static let malformed: [(String, [UInt8], String)] = [
    ("one byte", [0x50], "no ZIP directory"),
    ("no archive", Array(repeating: 0, count: 1000), "no ZIP directory"),
    ("an end record of a longer comment", end { $0.comment = [0] }.dropLast(), "no ZIP directory"),
    ("no entries", A.file([]), "data.pkl"),
    ("no pickle", A.file([A.Entry("m/data/0", data)]), #"without "m/data.pkl""#),
    ("a pickle in another folder", A.file([A.Entry("n/x"), A.Entry("m/data.pkl", pickle)]), #"without "n/data.pkl""#),
    ("no storage", A.file(F.entries(pickle)), #""data/0""#),
    ("a storage in another folder", A.file(F.entries(pickle) + [A.Entry("n/data/0", data)]), #""data/0""#),

    ("absolute path", named("/etc/passwd"), #""/etc/passwd""#),
    ("path upwards", named("m/../x"), #""m/../x""#),
    ("path upwards at the start", named("../x"), #""../x""#),
    ("path upwards at the end", named("m/.."), #""m/..""#),
    ("path of a dot", named("m/./x"), #""m/./x""#),
    ("path of nothing", named(""), "\"\""),
    ("path with nothing in it", named("m//x"), #""m//x""#),
    ("a folder", named("m/x/"), #""m/x/""#),
    ("path for Windows", named(#"m\x"#), #""m\\x""#),
    ("path with a zero", named("m/\u{0}"), "a path inside"),
    ("path not UTF-8", entry { $0.central.name = [0x6D, 0x2F, 0xFF] }, "a path inside"),
    ("duplicate", A.file(members + [A.Entry("m/data/0", data)]), #""m/data/0" occurs twice"#),
    ("another name in its local header", entry { $0.local.name = Array("m/data/1".utf8) }, "another name"),
    ("a longer name in its local header", entry { $0.local.name = Array("m/data/00".utf8) }, "another name"),

    ("compressed", entry { $0.central.method = 8 }, "compressed (method 8)"),
    ("compressed in its local header", entry { $0.local.method = 8 }, "compressed"),
    ("encrypted", entry { $0.central.flags = 1 }, "encrypted"),
    ("encrypted in its local header", entry { $0.local.flags = 1 }, "encrypted"),
    ("strongly encrypted", entry { $0.central.flags = 0x40 }, "encrypted"),
    ("masked", entry { $0.central.flags = 0x2000 }, "encrypted"),
    ("patched", entry { $0.central.flags = 0x20 }, "patched"),

    ("other stored size", entry { $0.central.storedSize = 4 }, "stores 4 bytes for 8"),
    ("shorter in its local header", entry { $0.local.size = 4 }, "but 4 in its local header"),
    ("stored shorter in its local header", entry { $0.local.storedSize = 4 }, "but 4 in its local header"),
    (
      "no size in its local header", entry { ($0.local.size, $0.local.storedSize) = (0, 0) },
      "but 0 in its local header"
    ),
    (
      "shorter",
      entry {
        ($0.central.size, $0.central.storedSize) = (4, 4)
        ($0.local.size, $0.local.storedSize) = (4, 4)
      }, "has 4 bytes, expected 2 F32"
    ),
    (
      "beyond the directory",
      entry {
        ($0.central.size, $0.central.storedSize) = (9, 9)
        ($0.local.size, $0.local.storedSize) = (9, 9)
      }, "expected its end before"
    ),
    (
      "2 GiB",
      entry {
        ($0.central.size, $0.central.storedSize) = (1 << 31, 1 << 31)
        ($0.local.size, $0.local.storedSize) = (1 << 31, 1 << 31)
      }, "expected its end before"
    ),
    ("offset in the directory", entry { $0.central.offset = UInt64(A.file(members).count - 100) }, "before byte"),
    ("offset of 4 GiB", entry { $0.central.offset = max32 - 1 }, "is at byte 4294967294"),
    ("offset of no header", entry { $0.central.offset = 1 }, #"the header of "m/data/0""#),
    ("offset of another's header", entry { $0.central.offset = 0 }, "another name"),
    ("on another disk", entry { $0.central.disk = 1 }, "stores 8 bytes for 8"),
    ("another signature in the directory", entry { $0.central.signature = [0x50, 0x4B, 1, 3] }, "an entry of the ZIP"),
    ("another signature at its local header", entry { $0.local.signature = [0x50, 0x4B, 3, 5] }, "the header of"),
    (
      "entry around another",
      A.file([
        A.Entry("m/data.pkl", pickle + A.file([A.Entry("m/data/0", data)]).prefix(46)),
        A.Entry("m/data/0", data, central: A.Header(offset: UInt64(30 + 10 + pickle.count))),
      ]), "overlaps another"
    ),

    ("ZIP64 sizes missing", entry { $0.central = A.Header(size: max32, storedSize: max32) }, "expected 8 bytes"),
    (
      "ZIP64 sizes cut short",
      entry {
        $0.central = A.Header(size: max32, storedSize: max32, extra: extra(8))
      }, "expected 8 bytes"
    ),
    (
      "ZIP64 extra field beyond its end",
      entry {
        $0.central = A.Header(size: max32, storedSize: max32, extra: [1, 0, 17, 0] + A.little(8, 16))
      }, "expected 17 bytes"
    ),
    (
      "ZIP64 size of 2^64 - 1",
      entry {
        $0.central = A.Header(size: max32, storedSize: max32, extra: extra(.max, .max))
        $0.local = A.Header(size: max32, storedSize: max32, extra: extra(.max, .max))
      }, "has 18446744073709551615 bytes"
    ),
    (
      "ZIP64 size of 2^63",
      entry {
        $0.central = A.Header(size: max32, storedSize: max32, extra: extra(1 << 63, 1 << 63))
        $0.local = A.Header(size: max32, storedSize: max32, extra: extra(1 << 63, 1 << 63))
      }, "has 9223372036854775808 bytes"
    ),
    (
      "other ZIP64 size in its local header",
      entry {
        $0.local = A.Header(size: max32, storedSize: max32, extra: extra(9, 9))
      }, "but 9 in its local header"
    ),
    (
      "ZIP64 offset of 2^64 - 1",
      entry {
        $0.central = A.Header(offset: max32, extra: extra(.max))
      }, "is at byte 18446744073709551615"
    ),

    ("more entries than there are", end { $0.entries = 3 }, "expected an entry of the ZIP directory"),
    ("fewer entries than there are", end { $0.entries = 1 }, "expected the end of the directory"),
    ("other entries on this disk", end { $0.entriesHere = 1 }, "multi-part"),
    ("another disk", end { $0.disk = 1 }, "multi-part"),
    ("65535 entries", end { $0.entries = 0xFFFF }, "expected an entry of the ZIP directory"),
    ("directory of 4 GiB", end { $0.size = max32 }, "a directory of 4294967295 bytes"),
    ("directory at 4 GiB", end { $0.offset = max32 }, "at byte 4294967295"),
    ("directory before its place", end { $0.offset = 0 }, "expected its end at"),
    ("bytes after the directory", end { $0.gap = [0] }, "expected its end at"),
    ("ZIP64 record of other entries", end { $0.zip64 = A.Zip64(entries: 3) }, "the ZIP64 record has 3"),
    ("ZIP64 record of another size", end { $0.zip64 = A.Zip64(size: 5) }, "the ZIP64 record has 5"),
    ("ZIP64 record of 2^64 - 1 entries", zip64 { $0.entries = .max }, "of 18446744073709551615 entries"),
    ("ZIP64 record of 65537 entries", zip64 { $0.entries = 65537 }, "of 65537 entries, expected at most 65536"),
    ("ZIP64 directory of 2^64 - 1 bytes", zip64 { $0.size = .max }, "a directory of 18446744073709551615 bytes"),
    ("ZIP64 directory at 2^64 - 1", zip64 { $0.offset = .max }, "at byte 18446744073709551615"),
    ("ZIP64 directory that wraps around", zip64 { ($0.size, $0.offset) = (.max, 300) }, "expected its end"),
    ("ZIP64 record at 2^64 - 1", zip64 { $0.start = .max }, "a ZIP64 record at byte 18446744073709551615"),
    ("ZIP64 record elsewhere", zip64 { $0.start = 0 }, "expected a ZIP64 record"),
    ("ZIP64 record of another length", zip64 { $0.recordSize = 45 }, "up to its locator"),
    ("ZIP64 record of 2^64 - 1 bytes", zip64 { $0.recordSize = .max }, "up to its locator"),
  ]

  @Test(arguments: malformed)
  func `refuses a malformed archive`(label: String, bytes: [UInt8], words: String) throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("a.bin", bytes)
    let error = #expect(throws: CheckpointError.self) { try TorchArchive(path) }
    let line = try #require(error?.description)
    #expect(line.hasPrefix(path + ": ") && line.contains(words), "\(line)")
  }

  @Test(arguments: [A.file(members), try? Array(Data(contentsOf: Fixtures.url("torch/state.bin")))])
  func `refuses a file truncated anywhere, and survives the change of any byte`(whole: [UInt8]?) throws {
    let whole = try #require(whole)
    let folder = try TemporaryFolder()
    for end in 1..<whole.count {
      let path = try folder.write("a.bin", whole[..<end])
      #expect(throws: CheckpointError.self, "\(end) bytes") { try TorchArchive(path) }
    }
    var loaded = 0
    for i in whole.indices {
      for value in [0, 0xFF, whole[i] ^ 1, whole[i] ^ 0x80] {
        var changed = whole
        changed[i] = value
        let path = try folder.write("a.bin", changed)
        guard let archive = try? TorchArchive(path) else { continue }
        loaded += 1
        for name in archive.records.keys { _ = try? archive.tensor(name).floats() }
      }
    }
    // The reader does not check weights, checksums and dates.
    #expect(loaded > 0)
  }
}
