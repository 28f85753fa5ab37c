import CKernels
import COneDNN

/// What the products of linear layers are computed in.
package enum ComputeType: String, Sendable, CaseIterable {
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
    package let computeType: ComputeType
    /// What multiplies many rows, such as `oneDNN 2.6.3`.
    package let library: String
    /// Why not what was asked for, or not by oneDNN; `nil` if so.
    package var exception: String?

    /// One line: what multiplies, and why not what was asked for.
    package var reason: String { "\(computeType) by \(library)" + (exception.map { "; " + $0 } ?? "") }
  }

  /// Decides what is computed in, by what the processor and its libraries can do fast.
  ///
  /// bf16 without their instructions would only lose digits, so they give way to f32.
  package func choice(on processor: Processor = .current) -> Choice {
    let floats = "OpenBLAS \(OpenBLAS.coreName)"
    switch self {
    case .f32: return Choice(computeType: .f32, library: floats)
    case .auto, .bf16:
      guard processor.instructions >= .avx512BF16 else {
        return Choice(computeType: .f32, library: floats, exception: "the processor has no AVX512_BF16")
      }
      if let oneDNN = processor.oneDNN, oneDNN.hasBF16 {
        return Choice(computeType: .bf16, library: "oneDNN \(oneDNN.version)")
      }
      // Slower than oneDNN's, but faster than anybody's f32.
      let missing = processor.oneDNN == nil ? "no oneDNN" : "oneDNN without bf16"
      return Choice(computeType: .bf16, library: "own kernels", exception: missing)
    case .int8:
      if let oneDNN = processor.oneDNN, oneDNN.hasInt8 {
        return Choice(computeType: .int8, library: "oneDNN \(oneDNN.version)")
      }
      let missing = processor.oneDNN == nil ? "no oneDNN" : "no VNNI"
      return Choice(computeType: .int8, library: "own kernels (\(processor.instructions))", exception: missing)
    }
  }
}

/// Instruction sets that the C kernels are compiled for; each includes those before it.
package enum InstructionSet: UInt32, Sendable, CaseIterable, Comparable {
  case portable, avx2, avx512, avx512VNNI, avx512BF16

  /// The highest that the processor and the operating system support.
  package static let detected = InstructionSet(rawValue: pdrop_detect_isa().rawValue) ?? .portable

  /// Whether this processor has the instructions.
  package var isAvailable: Bool { self <= .detected }

  package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }

  /// The same in C, whose cases have the same order.
  var code: pdrop_isa { pdrop_isa(rawValue: rawValue) }
}

/// What matrix products may use: the processor's instructions, and the oneDNN library where it is there.
///
/// Everything but `current` is for tests, which take things away; nothing can be added to what there is.
package struct Processor: Sendable {
  /// The oneDNN library.
  package struct OneDNN: Sendable, Equatable {
    package let version: String
    /// Whether it has fast products of bf16, and exact ones of integers, for this processor.
    package let hasBF16: Bool
    package let hasInt8: Bool
  }

  package let instructions: InstructionSet
  package let oneDNN: OneDNN?

  /// The processor that the program runs on.
  package static let current = Processor()

  private init() {
    instructions = .detected
    let version = pdrop_onednn_version()
    oneDNN =
      version == 0
      ? nil
      : OneDNN(
        version: "\(version / 10_000).\(version / 100 % 100).\(version % 100)",
        hasBF16: pdrop_onednn_has_bf16(), hasInt8: pdrop_onednn_has_int8())
  }

  /// The same processor with fewer instructions, or without the library.
  package func limited(to most: InstructionSet = .avx512BF16, withoutOneDNN: Bool = false) -> Processor {
    Processor(instructions: min(most, instructions), oneDNN: withoutOneDNN ? nil : oneDNN)
  }

  private init(instructions: InstructionSet, oneDNN: OneDNN?) {
    self.instructions = instructions
    self.oneDNN = oneDNN
  }
}
