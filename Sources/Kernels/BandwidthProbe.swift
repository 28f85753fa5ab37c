import Storage

/// Memory that is read from end to end, to see how fast the machine can: no decoding step is faster.
package struct BandwidthProbe: Sendable {
  private let bytes: SharedBytes

  /// - Parameter byteCount: Much more than the processor's caches hold; rounded up to whole blocks.
  package init(byteCount: Int, workers: Workers) {
    let blocks = max(1, (byteCount + Self.blockBytes - 1) / Self.blockBytes)
    // Written by the workers, so that each page exists.
    bytes = unsafe SharedBytes(count: blocks * Self.blockBytes) { target in
      workers.run(tasks: blocks) { block, _ in
        unsafe (target + block * Self.blockBytes).initializeMemory(
          as: UInt8.self, repeating: UInt8(truncatingIfNeeded: block), count: Self.blockBytes)
      }
    }
  }

  /// Bytes that one run reads.
  package var byteCount: Int { bytes.count }

  /// What a worker reads at a time.
  private static let blockBytes = 1 << 20

  /// Reads all of it.
  ///
  /// - Returns: The sum of all words, less what 64 bits do not hold.
  @discardableResult
  package func callAsFunction(workers: Workers) -> UInt64 {
    let blocks = bytes.count / Self.blockBytes
    let sums = UnsafeMutablePointer<UInt64>.allocate(capacity: blocks)
    defer { unsafe sums.deallocate() }
    let base = unsafe bytes.address(of: 0)
    workers.run(tasks: blocks) { block, _ in
      unsafe sums[block] = Self.sum(base + block * Self.blockBytes)
    }
    return (0..<blocks).reduce(0) { $0 &+ (unsafe sums[$1]) }
  }

  /// The sum of the words of a block, in four independent chains.
  private static func sum(_ base: UnsafeRawPointer) -> UInt64 {
    typealias Line = SIMD8<UInt64>
    var (a, b, c, d) = (Line(), Line(), Line(), Line())
    var offset = 0
    while offset < blockBytes {
      unsafe a &+= base.loadUnaligned(fromByteOffset: offset, as: Line.self)
      unsafe b &+= base.loadUnaligned(fromByteOffset: offset + 64, as: Line.self)
      unsafe c &+= base.loadUnaligned(fromByteOffset: offset + 128, as: Line.self)
      unsafe d &+= base.loadUnaligned(fromByteOffset: offset + 192, as: Line.self)
      offset += 256
    }
    let line = a &+ b &+ c &+ d
    return line.indices.reduce(0) { $0 &+ line[$1] }
  }
}
