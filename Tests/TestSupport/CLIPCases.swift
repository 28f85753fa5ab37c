/// The cases of `clip/cases.json`: questions, and selections of CDPruner with CLIP's text encoder.
public struct CLIPCases: Decodable {
  public struct Question: Decodable {
    public var text: String
    /// The tokens of each piece.
    public var pieces: [[Int]]
  }

  /// What the reference selects from an image.
  public struct Selection: Decodable {
    public var model: String
    public var image: String
    /// The index of the question.
    public var question: Int
    /// Tokens of each view.
    public var count: Int
    /// The tokens of each view, in order of choice.
    public var orders: [[Int]]
  }

  public var questions: [Question]
  public var selections: [Selection]
}
