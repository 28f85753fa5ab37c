/// One turn of a conversation.
public struct ChatMessage: Equatable, Sendable {
  public enum Role: String, Sendable, CaseIterable {
    case system, user, assistant
  }

  public enum Part: Equatable, Sendable {
    case text(String)

    /// The next of the pictures that go with the conversation.
    case image
  }

  public var role: Role
  public var parts: [Part]

  public init(role: Role, parts: [Part]) {
    self.role = role
    self.parts = parts
  }

  /// A question about pictures, which stand in front of it unless the question itself says where with `<image>`.
  public init(question: String, pictureCount: Int) {
    let images = question.contains("<image>") ? [] : Array(repeating: Part.image, count: pictureCount)
    self.init(role: .user, parts: images + [.text(question)])
  }
}
