public import Foundation
public import Storage

/// A conversation and its images, in the order of their image parts.
public struct Conversation: Sendable {
  public var messages: [ChatMessage]
  public var images: [Request.Image]

  public init(messages: [ChatMessage] = [], images: [Request.Image] = []) {
    self.messages = messages
    self.images = images
  }

  /// A conversation in OpenAI's format: a list of messages, or an object with such a list as `messages`.
  ///
  /// A message has a `role` and a `content`: a string or a list of parts. A part is `{"type": "text", "text"}`,
  /// `{"type": "image_url", "image_url": {"url"}}` with the URL also as a bare string, or `{"type": "image", "image"}`.
  ///
  /// - Parameters:
  ///   - json: The JSON text in UTF-8.
  ///   - folder: The folder of relative image paths.
  /// - Throws: `ConversationError`, as `.image` for an image that is not on this machine.
  public init(json: Data, folder: String? = nil) throws(ConversationError) {
    let value: JSONValue
    do throws(JSONParser.ParseError) { value = try JSONParser.parse([UInt8](json)) } catch {
      throw ConversationError.malformed(place: "byte \(error.offset)", expected: error.expected)
    }
    try self.init(value.array == nil ? value["messages"] : value, folder: folder)
  }

  /// A conversation from a parsed list of messages, as in `init(json:folder:)`.
  package init(_ messages: JSONValue, folder: String?) throws(ConversationError) {
    try self.init(messages) { reference throws(ImageReferenceError) in
      try Request.Image(reference: reference, folder: folder)
    }
  }

  /// A conversation from a parsed list of messages, as in `init(json:folder:)`.
  ///
  /// - Parameter image: The image of a reference.
  package init(_ messages: JSONValue, image: ImageResolver) throws(ConversationError) {
    guard let messages = messages.array else {
      throw ConversationError.malformed(place: "the top", expected: "a list of messages")
    }
    self.init()
    for (index, message) in messages.enumerated() {
      let place = "message \(index + 1)"
      // OpenAI's newer name of the system role.
      let role = message["role"].string == "developer" ? "system" : message["role"].string
      guard let role = role.flatMap(ChatMessage.Role.init(rawValue:)) else {
        throw ConversationError.malformed(place: place, expected: "the role system, user or assistant")
      }
      try Self.rejectUnread(message, MessageFields.isUnreadInMessage, place)
      self.messages.append(ChatMessage(role: role, parts: try parts(message["content"], place, image)))
    }
    guard self.messages.last?.role == .user else {
      throw ConversationError.malformed(place: "the last message", expected: "the role user")
    }
  }

  /// The image of a reference.
  package typealias ImageResolver = (_ reference: String) throws(ImageReferenceError) -> Request.Image

  private mutating func parts(
    _ content: JSONValue, _ place: String, _ image: ImageResolver
  ) throws(ConversationError) -> [ChatMessage.Part] {
    if let text = content.string { return [.text(text)] }
    guard let parts = content.array else {
      throw .malformed(place: place, expected: "a content that is a text or a list of parts")
    }
    var result: [ChatMessage.Part] = []
    for part in parts { result.append(try self.part(part, place, image)) }
    return result
  }

  private mutating func part(
    _ part: JSONValue, _ place: String, _ image: ImageResolver
  ) throws(ConversationError) -> ChatMessage.Part {
    try Self.rejectUnread(part, MessageFields.isUnreadInPart, place)
    // The type decides, so that a part with an image and a caption is not read as the caption alone.
    let type = part["type"].string ?? ""
    if let text = part["text"].string, !type.contains("image") { return .text(text) }
    let url = part["image_url"]
    guard let reference = url.string ?? url["url"].string ?? part["image"].string, type != "text" else {
      throw .malformed(place: place, expected: "parts of type text, image_url or image")
    }
    do { images.append(try image(reference)) } catch { throw .image(error) }
    return .image
  }

  /// Rejects an object with a member that is not read and would change the answer.
  private static func rejectUnread(
    _ object: JSONValue, _ isUnread: (JSONValue.Member, _ of: JSONValue) -> Bool, _ place: String
  ) throws(ConversationError) {
    guard let member = object.members?.first(where: { isUnread($0, object) }) else { return }
    throw .unsupported(place: place, field: member.key)
  }
}

/// An error of a conversation in OpenAI's format.
public enum ConversationError: UserFacingError, Equatable {
  case malformed(place: String, expected: String)
  /// A field of a message that would change the answer and is not read.
  case unsupported(place: String, field: String)
  /// An image that is not on this machine, or not valid.
  case image(ImageReferenceError)

  public var category: ErrorCategory {
    switch self {
    case .malformed: .input
    case .unsupported: .usage
    case .image(let error): error.category
    }
  }

  public var problem: String {
    switch self {
    case .malformed(let place, let expected):
      "the conversation is not in OpenAI's form: expected \(expected) at \(place)"
    case .unsupported(let place, let field) where MessageFields.isImage(field):
      "\(place): the field \(field.excerpt) is not read; give an image as a part of type image_url"
    case .unsupported(let place, let field):
      "\(place): the field \(field.excerpt) is not supported; leave it out"
    case .image(let error): error.problem
    }
  }
}
