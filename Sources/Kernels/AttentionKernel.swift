/// The data type of the queries and keys whose products are attention scores.
package enum ScoreType: String, Sendable, CaseIterable {
  /// That of the instruction set: bf16 with `avx512BF16` and `avx512AMX`, otherwise f32.
  case float
  /// Integers of at most 127 in magnitude with a scale for each row and head, as in an int8 KV cache, whose keys are
  /// used as they are. Their products are exact. On processors without VNNI the same as `float`.
  case int8
}

/// A kernel of attention. The last bits of a result depend on it.
package struct AttentionKernel: Sendable {
  package let instructions: InstructionSet
  /// The type of scores for blocks of more than two queries of a sequence.
  package let scores: ScoreType

  /// - Parameter instructions: With `avx512BF16` and `avx512AMX`, the operands of both matmuls are rounded to bf16 for
  ///   blocks of more than two queries; scores and sums are not.
  package init(_ instructions: InstructionSet, scores: ScoreType = .float) {
    (self.instructions, self.scores) = (instructions, scores)
  }

  /// The fastest kernel of this processor that computes in f32 throughout.
  package static let exact = AttentionKernel(min(.detected, .avx512))

  /// The kernel for a compute type: f32 throughout for f32, otherwise the fastest.
  package init(for computeType: ComputeType, scores: ScoreType) {
    self = computeType == .f32 ? .exact : AttentionKernel(.detected, scores: scores)
  }
}
