extension SharedBytes {
  /// XXH64 checksum of a range of the bytes, with seed 0. It detects corruption, not tampering.
  ///
  /// - Precondition: `range` lies within `0..<count`.
  ///
  /// Source: Yann Collet, the XXH64 algorithm, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
  package func checksum(_ range: Range<Int>) -> UInt64 {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "checksum: \(range) of \(count) bytes")
    return unsafe xxh64(address(of: range.lowerBound), count: range.count)
  }

  /// XXH64 checksum of all bytes.
  package var checksum: UInt64 { checksum(0..<count) }
}

// The five primes of the specification, under its names.
private let prime1: UInt64 = 0x9E37_79B1_85EB_CA87
private let prime2: UInt64 = 0xC2B2_AE3D_27D4_EB4F
private let prime3: UInt64 = 0x1656_67B1_9E37_79F9
private let prime4: UInt64 = 0x85EB_CA77_C2B2_AE63
private let prime5: UInt64 = 0x27D4_EB2F_1656_67C5

private func xxh64(_ bytes: UnsafeRawPointer, count: Int) -> UInt64 {
  func word(_ offset: Int) -> UInt64 {
    UInt64(littleEndian: unsafe bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }
  var offset = 0
  var hash = prime5
  if count >= 32 {
    var (a, b, c, d) = (prime1 &+ prime2, prime2, UInt64(0), 0 &- prime1)
    while offset <= count - 32 {
      a = mixed(a, word(offset))
      b = mixed(b, word(offset + 8))
      c = mixed(c, word(offset + 16))
      d = mixed(d, word(offset + 24))
      offset += 32
    }
    hash = rotated(a, 1) &+ rotated(b, 7) &+ rotated(c, 12) &+ rotated(d, 18)
    for lane in [a, b, c, d] { hash = (hash ^ mixed(0, lane)) &* prime1 &+ prime4 }
  }
  hash &+= UInt64(count)
  while offset <= count - 8 {
    hash = rotated(hash ^ mixed(0, word(offset)), 27) &* prime1 &+ prime4
    offset += 8
  }
  if offset <= count - 4 {
    let half = UInt32(littleEndian: unsafe bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    hash = rotated(hash ^ UInt64(half) &* prime1, 23) &* prime2 &+ prime3
    offset += 4
  }
  while offset < count {
    let byte = unsafe bytes.load(fromByteOffset: offset, as: UInt8.self)
    hash = rotated(hash ^ UInt64(byte) &* prime5, 11) &* prime1
    offset += 1
  }
  hash = (hash ^ hash >> 33) &* prime2
  hash = (hash ^ hash >> 29) &* prime3
  return hash ^ hash >> 32
}

@inline(__always)
private func mixed(_ lane: UInt64, _ word: UInt64) -> UInt64 { rotated(lane &+ word &* prime2, 31) &* prime1 }

@inline(__always)
private func rotated(_ x: UInt64, _ bits: UInt64) -> UInt64 { x << bits | x >> (64 - bits) }
