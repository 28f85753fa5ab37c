/// How a stored number is encoded.
package enum ElementType: String, Sendable, CaseIterable {
  case f32 = "F32"
  case f16 = "F16"
  case bf16 = "BF16"

  package var byteCount: Int { self == .f32 ? 4 : 2 }
}

/// A weight as it lies in its file: a shape over shared bytes, never copied, widened to `Float` where it is used.
@safe package struct Tensor: Sendable {
  package let shape: [Int]
  package let element: ElementType
  private let bytes: SharedBytes
  private let offset: Int

  /// - Precondition: `bytes` holds the product of `shape` elements from `offset` on.
  package init(_ bytes: SharedBytes, offset: Int = 0, shape: [Int], element: ElementType) {
    let byteCount = shape.reduce(element.byteCount, *)
    precondition(
      offset >= 0 && byteCount >= 0 && offset <= bytes.count - byteCount,
      "Tensor: \(shape) \(element) at \(offset) of \(bytes.count) bytes")
    self.shape = shape
    self.element = element
    self.bytes = bytes
    self.offset = offset
  }

  /// A tensor over a copy of `values`.
  package init(_ values: [Float], shape: [Int]) {
    self.init(SharedBytes(copying: values), shape: shape, element: .f32)
  }

  package var count: Int { shape.reduce(1, *) }

  /// Row count of a matrix: the first dimension.
  package var rows: Int { shape.first ?? 1 }

  /// Column count of a matrix: the product of all dimensions but the first.
  package var columns: Int { shape.dropFirst().reduce(1, *) }

  /// All values, widened.
  package func floats() -> [Float] {
    unsafe [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
      if let base = buffer.baseAddress { unsafe widen(0..<count, into: base) }
      initialized = count
    }
  }

  /// The bytes of all values, where they are.
  package var storedBytes: SharedBytes { bytes.part(offset..<offset + count * element.byteCount) }

  /// Whether the values are bf16 and lie where a 16-bit number may lie, as products in bf16 want them.
  package var isAlignedBrain: Bool {
    element == .bf16 && Int(bitPattern: unsafe address).isMultiple(of: ElementType.bf16.byteCount)
  }

  /// The stored floats themselves, when they are `f32` and lie where a `Float` may lie.
  var storedFloats: UnsafePointer<Float>? {
    let address = unsafe bytes.address(of: offset)
    guard element == .f32, Int(bitPattern: address).isMultiple(of: MemoryLayout<Float>.alignment) else { return nil }
    return unsafe address.assumingMemoryBound(to: Float.self)
  }

  /// Where the values lie, on any address; valid while the tensor lives.
  var address: UnsafeRawPointer { unsafe bytes.address(of: offset) }

  /// Writes a range of the values, widened exactly, to `destination`.
  func widen(_ range: Range<Int>, into destination: UnsafeMutablePointer<Float>) {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "widen: \(range) of \(count)")
    let source = unsafe bytes.address(of: offset + range.lowerBound * element.byteCount)
    switch element {
    case .f32: unsafe UnsafeMutableRawPointer(destination).copyMemory(from: source, byteCount: range.count * 4)
    case .f16: unsafe widenHalf(source, into: destination, count: range.count)
    case .bf16: unsafe widenBrain(source, into: destination, count: range.count)
    }
  }
}
