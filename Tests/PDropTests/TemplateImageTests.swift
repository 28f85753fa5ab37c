import Foundation
import PDrop
import Storage
import TestSupport
import Testing
import Tokenizers

/// The places of images in chat templates.
@Suite struct TemplateImageTests {
  private static let question = ChatMessage(role: .user, parts: [.image, .text("Q")])

  @Test func `finds the form in which a template takes images`() throws {
    func template(_ source: String) throws -> ChatTemplate { try ChatTemplate(name: "a", source: source) }
    func placing(_ source: String, takesImageText: Bool = false) throws -> String? {
      try template(source).placingImages(as: "<image>", takesImageText: takesImageText)?.render([Self.question])
    }
    let parts = "{% for c in messages[-1].content %}{{ '<image>' if c.type == 'image' else c.text }}{% endfor %}"
    #expect(try placing(parts) == "<image>Q")
    // Some require a system message, which is given by the request.
    let strict = "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}" + parts
    #expect(try template(strict).placingImages(as: "<image>") != nil)
    // A template for texts that writes the image itself, such as JoyCaption's.
    #expect(try placing("{% for m in messages %}<image>{{ m.content.strip() }}{% endfor %}") == "<image>Q")
    // Templates for text alone, one of which takes no lists.
    for source in ["{{ messages[0].content.strip() }}", "{{ 'Q: ' + messages[0]['content'] }}", "hello"] {
      #expect(try placing(source) == nil)
      #expect(
        try placing(source, takesImageText: true)
          == (source == "hello" ? nil : source.contains(":") ? "Q: <image>\nQ" : "<image>\nQ"))
    }
    let textOnly =
      "{% if messages[0].content is not string %}{{ raise_exception('no image') }}{% endif %}{{ messages[0].content }}"
    #expect(try placing(textOnly, takesImageText: true) == "<image>\nQ")
  }

  @Test(arguments: [
    ("{{ strftime_now('%j') }}", "'%j of strftime_now'"), ("{{ 10 ** 20 }}", "an integer that does not fit 64 bits"),
    ("{{ messages[0].nothing.more }}", "no attribute 'nothing'"),
  ])
  func `refuses a template with a place for images that cannot be rendered`(start: String, words: String) throws {
    let source =
      start + "{% for c in messages[0].content %}{{ '<image>' if c.type == 'image' else c.text }}{% endfor %}"
    let error = #expect(throws: PromptError.self) {
      try ChatTemplate(name: "a", source: source).placingImages(as: "<image>")
    }
    #expect(error?.category == .model && error?.description.contains("the chat template a: line 1") == true)
    #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
  }

  @Test func `a template gets all special tokens by their names`() throws {
    let folder = try TemporaryFolder()
    for name in ["tokenizer.json", "tokenizer_config.json"] {
      try folder.write(name, [UInt8](Data(contentsOf: Goldens.url("models/tiny-llava-1.5/\(name)"))))
    }
    try folder.write(
      "chat_template.jinja",
      "{% for c in messages[0].content %}{{ image_token if c.type == 'image' else c.text }}{% endfor %}")
    let template = try #require(
      try ChatTemplate.load(
        directory: URL(filePath: folder.path), tokenizer: Tokenizer(directory: URL(filePath: folder.path))))
    #expect(try template.render([Self.question]) == "<image>Q")
  }
}
