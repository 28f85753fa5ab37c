import Foundation
import PDrop
import Storage
import Testing

@Suite struct ConversationTests {
  @Test func `reads OpenAI messages with their images in order`() throws {
    let json = """
      {"messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
          {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAEC"}},
          {"type": "text", "text": "What is it?"},
          {"type": "image_url", "image_url": "cat.jpg"}]},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": [{"type": "image", "image": "/a/b.png"}, {"type": "text", "text": "And here?"}]}]}
      """
    let conversation = try Conversation(json: Data(json.utf8), folder: "photos")
    #expect(
      conversation.messages == [
        ChatMessage(role: .system, parts: [.text("Be brief.")]),
        ChatMessage(role: .user, parts: [.image, .text("What is it?"), .image]),
        ChatMessage(role: .assistant, parts: [.text("A cat.")]),
        ChatMessage(role: .user, parts: [.image, .text("And here?")]),
      ])
    #expect(conversation.images.count == 3)
    guard case .encoded([0, 1, 2], _) = conversation.images[0],
      case .file("photos/cat.jpg") = conversation.images[1],
      case .file("/a/b.png") = conversation.images[2]
    else {
      Issue.record("\(conversation.images)")
      return
    }
  }

  @Test func `a part with an image is an image, even if it also has text`() throws {
    let json = #"[{"role":"user","content":[{"type":"image_url","image_url":{"url":"a.png"},"text":"Look"}]}]"#
    let conversation = try Conversation(json: Data(json.utf8))
    #expect(conversation.messages == [ChatMessage(role: .user, parts: [.image])])
    #expect(conversation.images.count == 1)
  }

  @Test(arguments: [
    "", "[]", "{}", #"[{"role":"user"}]"#, #"[{"role":"robot","content":"hi"}]"#, #"[{"role":"user","content":[{}]}]"#,
    #"[{"role":"assistant","content":"hi"}]"#, #"{"messages":5}"#,
    #"[{"role":"user","content":[{"type":"image","text":"Look"}]}]"#,
    #"[{"role":"user","content":[{"type":"text","image":"a.png"}]}]"#,
  ])
  func `refuses malformed conversations with a one-line error`(json: String) {
    let error = #expect(throws: ConversationError.self) { try Conversation(json: Data(json.utf8)) }
    #expect(error?.description.contains("\n") == false)
  }
}
