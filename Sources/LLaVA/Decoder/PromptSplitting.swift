package import Kernels

extension LanguageModel {
  /// Whether the rows of a prompt get the same bits in two parts as in one: sums of whole numbers are exact, and rows of brain
  /// floats were found not to depend on their number; those of OpenBLAS do.
  package var splitsPrompts: Bool { layers.allSatisfy { $0.queries.arithmetic != .f32 } }

  /// Whether products on this machine give rows the same bits in two parts as in one, found by doing both.
  ///
  /// What `splitsPrompts` says of brain floats holds for the libraries that it was found with, and is promised by none.
  ///
  /// - Parameters:
  ///   - rows: Of the whole.
  ///   - first: Of the first part.
  package func splitsProducts(rows: Int, first: Int, on compute: Compute) -> Bool {
    guard splitsPrompts, let layer = layers.first else { return false }
    return [layer.queries, layer.gate, layer.down].allSatisfy { linear in
      linear.arithmetic == .int8 || splitsProduct(linear, rows: rows, first: first, on: compute)
    }
  }

  private func splitsProduct(_ linear: Linear, rows: Int, first: Int, on compute: Compute) -> Bool {
    var generator = SplitMix64(seed: 1)
    let values = (0..<rows * linear.inputSize).map { _ in Float(generator.next() >> 40) * 0x1p-23 - 1 }
    let input = Matrix(values, columns: linear.inputSize)
    func product(_ range: Range<Int>, isPart: Bool) -> [UInt32] {
      var part = Matrix(rows: 0, columns: linear.inputSize)
      var result = Matrix(rows: 0, columns: linear.outputSize)
      part.assign(input, rows: range)
      compute.isPartOfMany = isPart
      compute.multiply(&result, part, by: linear, .queries)
      compute.isPartOfMany = false
      return result.values.map(\.bitPattern)
    }
    return product(0..<rows, isPart: false)
      == product(0..<first, isPart: false) + product(first..<rows, isPart: true)
  }
}
