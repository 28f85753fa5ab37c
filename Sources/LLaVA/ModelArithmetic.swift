package import Kernels

/// What the parts of a model multiply in.
///
/// In int8, tower, projector and head keep more digits unless asked otherwise: they are a small part of the work, and the
/// tower's features and the head's logits feel rounding most.
package struct ModelArithmetic: Sendable, Equatable {
  /// The layers of the decoder.
  package var decoder: Arithmetic
  /// The vision tower and the projector.
  package var vision: Arithmetic
  /// From the last hidden state to logits.
  package var head: Arithmetic

  package init(decoder: Arithmetic, vision: Arithmetic, head: Arithmetic) {
    self.decoder = decoder
    self.vision = vision
    self.head = head
  }

  /// Everything in one arithmetic.
  package init(_ arithmetic: Arithmetic) { self.init(decoder: arithmetic, vision: arithmetic, head: arithmetic) }

  /// Decoder, tower and head in a word, such as `int8-bf16-bf16`.
  package var label: String { [decoder, vision, head].map(\.rawValue).joined(separator: "-") }
}
