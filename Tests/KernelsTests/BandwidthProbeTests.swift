import Kernels
import Testing

@Suite struct BandwidthProbeTests {
  @Test func `reads every block, on any number of threads`() {
    // Each byte of a 1 MiB block is the index of the block: 131072 words of zeros, then 131072 words of ones.
    let probe = BandwidthProbe(byteCount: 2_000_001, workers: Workers(count: 1))
    #expect(probe.byteCount == 2 << 20)
    for threads in [1, 2] { #expect(probe(workers: Workers(count: threads)) == 131_072 &* 0x0101_0101_0101_0101) }
  }
}
