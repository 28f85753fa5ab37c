internal import COneDNN
internal import CQuantKernels

/// What matrix products may use: the processor's instructions, and the oneDNN library where it is there.
///
/// Everything but `current` is for tests, which take things away; nothing can be added to what there is.
package struct Processor: Sendable {
  /// Instruction sets that our own kernels come in; each includes those before it.
  package enum Instructions: Int32, Sendable, CaseIterable, Comparable {
    case portable, avx2, avx512, avx512VNNI, avx512BF16

    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
  }

  /// The oneDNN library.
  package struct OneDNN: Sendable, Equatable {
    package let version: String
    /// Whether it has fast products of brain floats, and exact ones of whole numbers, for this processor.
    package let hasBF16: Bool
    package let hasInt8: Bool
  }

  package let instructions: Instructions
  package let oneDNN: OneDNN?

  /// The processor that the program runs on.
  package static let current = Processor()

  private init() {
    instructions = Instructions(rawValue: pdrop_best_level()) ?? .portable
    let version = pdrop_onednn_version()
    oneDNN =
      version == 0
      ? nil
      : OneDNN(
        version: "\(version / 10_000).\(version / 100 % 100).\(version % 100)",
        hasBF16: pdrop_onednn_has_bf16() != 0, hasInt8: pdrop_onednn_has_int8() != 0)
  }

  /// The same processor with fewer instructions, or without the library.
  package func limited(to most: Instructions = .avx512BF16, withoutOneDNN: Bool = false) -> Processor {
    Processor(instructions: min(most, instructions), oneDNN: withoutOneDNN ? nil : oneDNN)
  }

  private init(instructions: Instructions, oneDNN: OneDNN?) {
    self.instructions = instructions
    self.oneDNN = oneDNN
  }
}
