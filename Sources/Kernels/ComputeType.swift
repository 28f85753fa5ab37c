import CKernels
import COneDNN
import Storage

/// Data type of the matmuls of linear layers.
package enum ComputeType: String, Sendable, CaseIterable {
  /// Weights widened exactly from their stored type; f32 throughout.
  case f32
  /// Weights and activations rounded to bf16, sums in f32.
  case bf16
  /// Weights quantized per output, activations per row; integer sums are exact.
  case int8
  /// Block-quantized weights as in GGUF files; activations are quantized for every 256 values of a row.
  case blocks
}

extension ComputeType {
  /// The compute type and library that a request resolves to on a processor.
  package struct Choice: Sendable {
    package let computeType: ComputeType
    /// The implementation of matmuls of many rows, such as `oneDNN 2.6.3`.
    package let library: String
    /// Why the requested type or oneDNN is not used; `nil` if it is.
    package var fallbackReason: String?

    /// Such as `int8 (own kernels, avx2; no oneDNN)`.
    ///
    /// - Parameters:
    ///   - name: The name of the type; `nil` for its own.
    ///   - note: Said beside the reason of a fallback.
    package func summary(_ name: String? = nil, note: String? = nil) -> String {
      "\(name ?? computeType.rawValue) (\([library, fallbackReason, note].compactMap(\.self).joined(separator: "; ")))"
    }
  }

  /// The best type for a request on a processor: one that the processor and its libraries compute fast.
  ///
  /// Without bf16 instructions, bf16 would lose precision and gain no speed, so f32 is used instead.
  ///
  /// - Parameter request: `nil` for the fastest type without quantization.
  package static func best(for request: ComputeType?, on processor: Processor = .current) -> Choice {
    switch request {
    case .f32: return f32(on: processor)
    case nil, .bf16:
      guard processor.instructions >= .avx512BF16 else {
        var choice = f32(on: processor)
        choice.fallbackReason =
          [choice.fallbackReason, "the processor has no AVX512_BF16"].compactMap(\.self).joined(separator: "; ")
        return choice
      }
      if processor.instructions == .avx512AMX {
        return Choice(computeType: .bf16, library: "own kernels, \(processor.instructions)")
      }
      if let oneDNN = processor.oneDNN, oneDNN.hasBF16 {
        return Choice(computeType: .bf16, library: "oneDNN \(oneDNN.version)")
      }
      // Slower than oneDNN in bf16, but faster than f32 of any library.
      let missing = processor.oneDNN == nil ? "no oneDNN" : "oneDNN without bf16"
      return Choice(computeType: .bf16, library: "own kernels", fallbackReason: missing)
    case .blocks: return Choice(computeType: .blocks, library: "own kernels, \(processor.instructions)")
    case .int8:
      if processor.instructions == .avx512AMX {
        return Choice(computeType: .int8, library: "own kernels, \(processor.instructions)")
      }
      if let oneDNN = processor.oneDNN, oneDNN.hasInt8 {
        return Choice(computeType: .int8, library: "oneDNN \(oneDNN.version)")
      }
      let missing = processor.oneDNN == nil ? "no oneDNN" : "no VNNI"
      return Choice(
        computeType: .int8, library: "own kernels, \(processor.instructions)", fallbackReason: missing)
    }
  }

  private static func f32(on processor: Processor) -> Choice {
    switch processor.blas {
    case .success(let library): Choice(computeType: .f32, library: "OpenBLAS, \(library.coreName) kernels")
    case .failure(let absence):
      Choice(
        computeType: .f32, library: "own kernels, \(processor.instructions)", fallbackReason: absence.description)
    }
  }
}

/// ISA levels of the C kernels; each includes all lower ones.
package enum InstructionSet: UInt32, Sendable, CaseIterable, Comparable {
  case portable, avx2, avx512, avx512VNNI, avx512BF16, avx512AMX

  /// The highest level that the processor and the operating system support.
  package static let detected = InstructionSet(rawValue: pdrop_detect_isa().rawValue) ?? .portable

  /// Whether this processor supports the level.
  package var isAvailable: Bool { self <= .detected }

  package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }

  /// The C enumerator, which has the same raw value.
  var code: pdrop_isa { pdrop_isa(rawValue: rawValue) }
}

/// Instructions and libraries available to matmuls: the ISA level of the processor, OpenBLAS and oneDNN
/// if they are installed.
///
/// Tests restrict `current` with `limited`; features that are missing cannot be added.
package struct Processor: Sendable {
  /// The oneDNN library.
  package struct OneDNN: Sendable, Equatable {
    package let version: String
    /// Whether the library has fast bf16 matmuls on this processor.
    package let hasBF16: Bool
    /// Whether the library has exact int8 matmuls on this processor.
    package let hasInt8: Bool
  }

  package let instructions: InstructionSet
  package let oneDNN: OneDNN?
  /// The OpenBLAS library, or why there is none.
  package let blas: Result<OpenBLAS, OpenBLAS.Absence>

  package var openBLAS: OpenBLAS? { try? blas.get() }

  /// The processor of this machine.
  package static let current = Processor()

  private init() {
    instructions = .detected
    blas = OpenBLAS.current
    let version = AddressSpace.allowsLibraries ? pdrop_onednn_version() : 0
    oneDNN =
      version == 0
      ? nil
      : OneDNN(
        version: "\(version / 10_000).\(version / 100 % 100).\(version % 100)",
        hasBF16: pdrop_onednn_has_bf16(), hasInt8: pdrop_onednn_has_int8())
  }

  /// The same processor limited to an ISA level, or without a library.
  package func limited(
    to maximum: InstructionSet = .avx512AMX, withoutOneDNN: Bool = false, withoutOpenBLAS: Bool = false
  ) -> Processor {
    Processor(
      instructions: min(maximum, instructions), oneDNN: withoutOneDNN ? nil : oneDNN,
      blas: withoutOpenBLAS ? .failure(.notInstalled) : blas)
  }

  private init(instructions: InstructionSet, oneDNN: OneDNN?, blas: Result<OpenBLAS, OpenBLAS.Absence>) {
    self.instructions = instructions
    self.oneDNN = oneDNN
    self.blas = blas
  }
}
