import Storage

/// A benchmark of memory bandwidth: a large buffer that is read from end to end. Bandwidth bounds the speed of decode.
package struct BandwidthProbe: Sendable {
  private let bytes: SharedBytes

  /// - Parameter byteCount: The size of the buffer, much larger than the processor's caches; rounded up to whole
  ///   blocks.
  package init(byteCount: Int, workers: Workers) {
    let blocks = max(1, (byteCount + Self.blockBytes - 1) / Self.blockBytes)
    // The workers write every page, so that it is allocated.
    bytes = unsafe SharedBytes(count: blocks * Self.blockBytes) { target in
      workers.run(tasks: blocks) { block, _ in
        unsafe (target + block * Self.blockBytes).initializeMemory(
          as: UInt8.self, repeating: UInt8(truncatingIfNeeded: block), count: Self.blockBytes)
      }
    }
  }

  /// Bytes read by one run.
  package var byteCount: Int { bytes.count }

  /// Bytes per task.
  private static let blockBytes = 1 << 20

  /// Reads the whole buffer.
  ///
  /// - Returns: The sum of all 64-bit words, modulo 2^64.
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

  /// The sum of the words of a block, in four independent accumulators.
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
