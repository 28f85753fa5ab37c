/// A conversation about pictures that grows turn by turn; each picture is encoded once.
///
/// A turn asks with the whole conversation as its prompt, so that every question ranks all visual tokens anew by its own
/// last token: what was dropped for one question is there again for the next. A turn that fails leaves no trace.
public struct Chat: Sendable {
  /// The turns that are complete.
  public private(set) var messages: [ChatMessage] = []
  /// Their pictures, in order.
  public private(set) var pictures: [EncodedPicture] = []
  /// The pictures that the next question will be about.
  public private(set) var newPictures: [EncodedPicture] = []

  public init() {}

  /// Adds a picture to the next question.
  public mutating func add(_ picture: EncodedPicture) { newPictures.append(picture) }

  /// What asks the next question.
  ///
  /// - Parameters:
  ///   - question: `<image>` in it says where a new picture belongs, else they stand in front.
  ///   - base: How it is asked; its prompt and pictures are not looked at.
  public func request(_ question: String, like base: Request) -> Request {
    var request = base
    request.prompt = .messages(messages + [message(question)])
    request.pictures = (pictures + newPictures).map { .features($0) }
    return request
  }

  /// Ends a turn: question, new pictures and answer become part of the conversation.
  public mutating func complete(_ question: String, answer: String) {
    messages += [message(question), ChatMessage(role: .assistant, parts: [.text(answer)])]
    pictures += newPictures
    newPictures.removeAll()
  }

  private func message(_ question: String) -> ChatMessage {
    ChatMessage(question: question, pictureCount: newPictures.count)
  }
}
