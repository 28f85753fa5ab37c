import Kernels
import Storage
import Testing

@Suite struct ChecksumTests {
  /// Checksums by the reference library (xxhash 3 for Python) of byte counts; the bytes are 3, 10, 17, …
  @Test(
    arguments: [
      (0, 0xEF46_DB37_51D8_E999), (1, 0x1F25_C8D0_BC1F_4BB6), (4, 0x9BB6_4B7D_66EE_9FDA), (7, 0x9A7B_1499_59CE_60D8),
      (8, 0xDAB9_9D95_C6F9_0092), (31, 0xA2AA_5F33_CC4A_6119), (32, 0x23C3_C17E_F790_FD97), (33, 0x50A7_CFC7_BA58_8784),
      (63, 0x5E3E_54B4_31C7_493C), (64, 0xEB64_B3EF_6EEB_01F), (100, 0xA61F_8D4C_170F_E531),
      (1000, 0x5F23_5FA0_33F1_A3FB),
    ] as [(Int, UInt64)])
  func `is XXH64 at any address`(count: Int, expected: UInt64) {
    let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 * 7 + 3) }
    #expect(SharedBytes(copying: bytes).checksum == expected)
    let shifted = SharedBytes(copying: [9, 9, 9] + bytes + [9])
    #expect(shifted.checksum(3..<3 + count) == expected)
    #expect(shifted.part(3..<3 + count).checksum == expected)
  }

  @Test func `is the same when slices are computed in parallel`() {
    let pieces = (0..<100).map { SharedBytes(copying: [UInt8](repeating: 7, count: 3 * $0)) }
    let workers = Workers(count: 3)
    #expect(workers.map(tasks: pieces.count) { pieces[$0].checksum } == pieces.map(\.checksum))
    #expect(workers.map(tasks: 0) { pieces[$0].checksum }.isEmpty)
  }
}
