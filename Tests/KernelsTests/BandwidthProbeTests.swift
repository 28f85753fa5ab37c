import Kernels
import Testing

@Suite struct BandwidthProbeTests {
  @Test func `reads every block, on any number of threads`() {
    // Blocks of a megabyte hold their number in each byte: 131072 words of nothing, and as many of ones.
    let test = BandwidthProbe(byteCount: 2_000_001, workers: Workers(count: 1))
    #expect(test.byteCount == 2 << 20)
    for threads in [1, 2] { #expect(test(workers: Workers(count: threads)) == 131_072 &* 0x0101_0101_0101_0101) }
  }
}
