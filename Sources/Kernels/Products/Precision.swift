/// What the products of linear layers are computed in.
package enum Arithmetic: String, Sendable, CaseIterable {
  /// Weights as stored, widened exactly; floats throughout.
  case f32
  /// Weights and inputs rounded to bf16, sums in f32.
  case bf16
  /// Weights quantised by output, inputs by row, sums exact.
  case int8
}

/// What a user may ask for.
package enum Precision: String, Sendable, CaseIterable {
  /// The fastest that is as exact as the checkpoint: bf16 where the processor has it, else f32.
  case auto
  case f32
  case bf16
  case int8

  /// What it comes to on a processor.
  package struct Choice: Sendable {
    package let arithmetic: Arithmetic
    /// What multiplies many rows, such as `oneDNN 2.6.3`.
    package let library: String
    /// Why not what was asked for, or not by oneDNN; `nil` if so.
    package var exception: String?

    /// One line: what multiplies, and why not what was asked for.
    package var reason: String { "\(arithmetic) by \(library)" + (exception.map { "; " + $0 } ?? "") }
  }

  /// Decides what is computed in, by what the processor and its libraries can do fast.
  ///
  /// Brain floats without their instructions would only lose digits, so they give way to f32.
  package func choice(on processor: Processor = .current) -> Choice {
    let floats = "OpenBLAS \(OpenBLAS.coreName)"
    switch self {
    case .f32: return Choice(arithmetic: .f32, library: floats)
    case .auto, .bf16:
      guard processor.instructions >= .avx512BF16 else {
        return Choice(arithmetic: .f32, library: floats, exception: "the processor has no AVX512_BF16")
      }
      if let oneDNN = processor.oneDNN, oneDNN.hasBF16 {
        return Choice(arithmetic: .bf16, library: "oneDNN \(oneDNN.version)")
      }
      // Slower than oneDNN's, but faster than anybody's f32.
      let missing = processor.oneDNN == nil ? "no oneDNN" : "oneDNN without bf16"
      return Choice(arithmetic: .bf16, library: "own kernels", exception: missing)
    case .int8:
      if let oneDNN = processor.oneDNN, oneDNN.hasInt8 {
        return Choice(arithmetic: .int8, library: "oneDNN \(oneDNN.version)")
      }
      let missing = processor.oneDNN == nil ? "no oneDNN" : "no VNNI"
      return Choice(arithmetic: .int8, library: "own kernels (\(processor.instructions))", exception: missing)
    }
  }
}
