import CKernels
package import Storage

/// Element type of stored tensors.
package enum ElementType: String, Sendable, CaseIterable {
  case f32 = "F32"
  case f16 = "F16"
  case bf16 = "BF16"

  package var byteCount: Int { self == .f32 ? 4 : 2 }
}

/// A tensor as stored in a file: a shape and a type over shared bytes, without a copy. Values are widened to `Float` on
/// use.
@safe package struct Tensor: Sendable {
  package let shape: [Int]
  package let type: StoredType
  private let bytes: SharedBytes
  private let offset: Int

  /// - Precondition: `bytes` holds all values of `shape` from byte `offset` on, and a row is whole blocks.
  package init(_ bytes: SharedBytes, offset: Int = 0, shape: [Int], type: StoredType) {
    let byteCount = type.byteCount(shape.reduce(1, *))
    precondition(
      offset >= 0 && byteCount >= 0 && offset <= bytes.count - byteCount
        && (shape.last ?? 1).isMultiple(of: type.valuesPerBlock),
      "Tensor: \(shape) \(type.name) at \(offset) of \(bytes.count) bytes")
    self.shape = shape
    self.type = type
    self.bytes = bytes
    self.offset = offset
  }

  /// A tensor of floats.
  ///
  /// - Precondition: `bytes` holds all elements of `shape` from byte `offset` on.
  package init(_ bytes: SharedBytes, offset: Int = 0, shape: [Int], element: ElementType) {
    self.init(bytes, offset: offset, shape: shape, type: .floats(element))
  }

  /// An f32 tensor with a copy of `values`.
  package init(_ values: [Float], shape: [Int]) {
    self.init(SharedBytes(copying: values), shape: shape, element: .f32)
  }

  /// Number of values.
  package var count: Int { shape.reduce(1, *) }

  /// Bytes of all values as stored.
  package var byteCount: Int { type.byteCount(count) }

  /// Rows of the tensor as a matrix: the first dimension.
  package var rows: Int { shape.first ?? 1 }

  /// Columns of the tensor as a matrix: the product of all dimensions but the first.
  package var columns: Int { shape.dropFirst().reduce(1, *) }

  /// Bytes of a row of the tensor as a matrix.
  package var rowByteCount: Int { type.byteCount(columns) }

  /// All values, widened to f32.
  package func floats() -> [Float] {
    unsafe [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
      if let base = buffer.baseAddress { unsafe widen(0..<count, into: base) }
      initialized = count
    }
  }

  /// The stored bytes of all values, without a copy.
  package var storedBytes: SharedBytes { bytes.part(offset..<offset + byteCount) }

  /// The element type of floats; `nil` for blocks.
  package var element: ElementType? {
    guard case .floats(let element) = type else { return nil }
    return element
  }

  /// Whether the values are bf16 and 2-byte aligned, as matmuls in bf16 require.
  package var isAlignedBF16: Bool {
    element == .bf16 && Int(bitPattern: unsafe address).isMultiple(of: ElementType.bf16.byteCount)
  }

  /// The address of the stored values if they are f32 and 4-byte aligned.
  var storedFloats: UnsafePointer<Float>? {
    let address = unsafe bytes.address(of: offset)
    guard element == .f32, Int(bitPattern: address).isMultiple(of: MemoryLayout<Float>.alignment) else { return nil }
    return unsafe address.assumingMemoryBound(to: Float.self)
  }

  /// The address of the stored values, with any alignment; valid while the tensor is alive.
  var address: UnsafeRawPointer { unsafe bytes.address(of: offset) }

  /// Writes a range of the values, widened exactly, to `destination`.
  ///
  /// - Precondition: The range is whole blocks.
  func widen(_ range: Range<Int>, into destination: UnsafeMutablePointer<Float>) {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= count && range.lowerBound.isMultiple(of: type.valuesPerBlock)
        && range.upperBound.isMultiple(of: type.valuesPerBlock),
      "widen: \(range) of \(count) in \(type.name)")
    let source = unsafe bytes.address(of: offset + type.byteCount(range.lowerBound))
    switch type {
    case .floats(.f32):
      unsafe UnsafeMutableRawPointer(destination).copyMemory(from: source, byteCount: range.count * 4)
    case .floats(.f16): unsafe widenF16(source, into: destination, count: range.count)
    case .floats(.bf16): unsafe widenBF16(source, into: destination, count: range.count)
    case .blocks(let type): unsafe pdrop_dequantize_blocks(type.code, source, range.count, destination)
    }
  }

  /// The tensor with its rows in another order, as a copy in memory.
  ///
  /// - Parameter source: The row of this tensor that each row of the result is, once each.
  package func reordered(rows source: [Int]) -> Tensor {
    precondition(source.count == rows, "reordered: \(source.count) of \(rows) rows")
    let rowBytes = rowByteCount
    let copy = unsafe SharedBytes(count: byteCount) { target in
      for (row, from) in source.enumerated() {
        precondition(from >= 0 && from < rows, "reordered: row \(from) of \(rows)")
        unsafe (target + row * rowBytes).copyMemory(from: address + from * rowBytes, byteCount: rowBytes)
      }
    }
    return Tensor(copy, shape: shape, type: type)
  }

  /// Gives the pages of a mapped file back to the system; they are read again if they are used again.
  package func releasePages() { bytes.releasePages(offset..<offset + byteCount) }
}

/// Widens f16 (IEEE binary16) values exactly; infinities stay infinite, NaN stays NaN.
func widenF16(_ source: UnsafeRawPointer, into destination: UnsafeMutablePointer<Float>, count: Int) {
  for i in 0..<count {
    unsafe destination[i] = widenedF16(source.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self))
  }
}

/// Widens bf16 values exactly: bf16 is the upper half of a `Float`.
func widenBF16(_ source: UnsafeRawPointer, into destination: UnsafeMutablePointer<Float>, count: Int) {
  for i in 0..<count {
    let bits = unsafe source.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self)
    unsafe destination[i] = Float(bitPattern: UInt32(bits) << 16)
  }
}

/// The value of f16 bits, in integer steps that the compiler vectorizes on any CPU.
///
/// Exponent and mantissa are shifted to their places in a `Float`, whose exponent is then too small by 112. One exact
/// multiplication corrects it, subnormals included. An exponent of all ones is set separately.
@inline(__always)
func widenedF16(_ bits: UInt16) -> Float {
  let magnitude = UInt32(bits & 0x7FFF) << 13
  let scaled = (Float(bitPattern: magnitude) * 0x1p112).bitPattern
  let special: UInt32 = magnitude >= 0x0F80_0000 ? 0x7F80_0000 : 0
  return Float(bitPattern: scaled | special | UInt32(bits & 0x8000) << 16)
}

extension Tensor {
  /// Calls `body` with every row, widened to f32, in parallel.
  func forEachRow(workers: Workers, _ body: (_ row: Int, _ values: UnsafePointer<Float>) -> Void) {
    let columns = columns
    guard columns > 0 else { return }
    // About 256 KiB of floats per task.
    let blockRows = max(1, 65_536 / columns)
    workers.run(tasks: (rows + blockRows - 1) / blockRows) { task, _ in
      let values = unsafe allocateFloats(columns)
      defer { unsafe values.deallocate() }
      for row in task * blockRows..<min((task + 1) * blockRows, rows) {
        unsafe widen(row * columns..<(row + 1) * columns, into: values)
        unsafe body(row, values)
      }
    }
  }

  /// The tensor in bf16, rounded to nearest, ties to even; `self` if it is already aligned bf16.
  package func rounded(workers: Workers) -> Tensor {
    if isAlignedBF16 { return self }
    let columns = columns
    let bytes = unsafe SharedBytes(count: count * ElementType.bf16.byteCount) { target in
      unsafe forEachRow(workers: workers) { row, values in
        let target = unsafe (target + row * columns * 2).assumingMemoryBound(to: UInt16.self)
        unsafe pdrop_round_f32_to_bf16(values, columns, target)
      }
    }
    return Tensor(bytes, shape: shape, element: .bf16)
  }
}

extension Tensor {
  /// A tensor of random values with a nearly normal distribution.
  ///
  /// A value depends only on the seed and on its index, so the number of threads does not matter. A bf16 value is the
  /// f32 value of the same seed, rounded.
  ///
  /// - Precondition: `element` is `f32` or `bf16`.
  /// - Parameters:
  ///   - shape: A shape of any rank.
  ///   - mean: The mean of the distribution.
  ///   - deviation: Its standard deviation; values are at most 3.47 deviations from the mean.
  ///   - element: The element type.
  ///   - seed: The random seed.
  ///   - workers: The threads that generate the values.
  ///
  /// Source: the Irwin-Hall distribution (1927) of sums of four uniform numbers, from the bits of SplitMix.
  package init(
    randomShape shape: [Int], mean: Float = 0, deviation: Float, element: ElementType, seed: UInt64, workers: Workers
  ) {
    precondition(element != .f16, "Tensor: random values in f16")
    let count = shape.reduce(1, *)
    let width = element.byteCount
    let blockSize = 65_536
    // Sums of four 16-bit numbers have the mean 2 · 65535 and the variance 4 · 65536² / 12, up to 1 in 4·10⁹.
    let scale = deviation / (65_536 / Float(3).squareRoot())
    let bytes = unsafe SharedBytes(count: count * width) { target in
      workers.run(tasks: (count + blockSize - 1) / blockSize) { block, _ in
        for i in block * blockSize..<min((block + 1) * blockSize, count) {
          let bits = SplitMix64.mixed(seed &+ UInt64(truncatingIfNeeded: i) &* SplitMix64.increment)
          let sum = (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + bits >> 48
          let value = mean + (Float(Int32(truncatingIfNeeded: sum)) - 131_070) * scale
          switch element {
          case .f32: unsafe target.storeBytes(of: value, toByteOffset: i * width, as: Float.self)
          default: unsafe target.storeBytes(of: roundedBF16(value), toByteOffset: i * width, as: UInt16.self)
          }
        }
      }
    }
    self.init(bytes, shape: shape, element: element)
  }
}

/// The bits of a finite value rounded to bf16, to nearest, ties to even.
@inline(__always)
private func roundedBF16(_ x: Float) -> UInt16 {
  UInt16(truncatingIfNeeded: (x.bitPattern &+ 0x7FFF &+ (x.bitPattern >> 16) & 1) >> 16)
}

/// A small, reproducible random number generator.
///
/// Source: Steele, Lea and Flood 2014, SplitMix.
package struct SplitMix64: RandomNumberGenerator {
  /// The increment of the state per number.
  static let increment: UInt64 = 0x9E37_79B9_7F4A_7C15

  private var state: UInt64

  package init(seed: UInt64) { state = seed }

  package mutating func next() -> UInt64 {
    state &+= Self.increment
    return Self.mixed(state)
  }

  /// The output for a state.
  @inline(__always)
  static func mixed(_ state: UInt64) -> UInt64 {
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
