import Foundation
import ModelTestSupport
import PDrop
import Storage
import TestSupport
import Testing
import Tokenizers

@Suite struct ChatTests {
  static let images = ["images/gray_300x400.png", "images/tiny_20x30.png"].map {
    Request.Image.file(Goldens.path($0))
  }

  static func base() -> Request {
    var options = GenerationOptions()
    options.maxTokens = 3
    options.ignoresEOS = true
    return Request(prompt: .messages([]), options: options)
  }

  @Test(arguments: ["tiny-llava-1.5", "tiny-llava-next-mistral"])
  func `a request with an encoded image gives the same bytes as with the file`(name: String) throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/\(name)"))
    let image = Self.images[1]
    let encoded = try model.encode(image, threads: 1)
    var request = Self.base()
    request.prompt = .messages([ChatMessage(question: "What is it?", imageCount: 1)])
    request.recordsTensors = true
    request.images = [image]
    let fromFile = try Trace(of: request, model)
    request.images = [.features(encoded)]
    let fromFeatures = try Trace(of: request, model)
    #expect(fromFeatures.tensors.names == fromFile.tensors.names)
    for name in fromFile.tensors.names {
      #expect(try fromFeatures.tensors.bytes(name) == fromFile.tensors.bytes(name), "\(name)")
    }
    #expect(fromFeatures.report.tokens == fromFile.report.tokens && fromFeatures.report.text == fromFile.report.text)
    #expect(fromFeatures.report.stages == fromFile.report.stages)
    #expect(
      fromFeatures.report.imageSpans == fromFile.report.imageSpans
        && fromFeatures.report.imageSpans[0][1] == encoded.tokenCount)
    #expect(fromFeatures.report.paperFlops == fromFile.report.paperFlops)
    #expect(fromFeatures.report.flops.encode == 0 && fromFeatures.report.flops.project == 0)
    var whole = fromFeatures.report
    whole.include(encoded)
    #expect(whole.flops == fromFile.report.flops && whole.flops.encode > 0)
  }

  @Test func `an encoded image keeps the orientation that it was encoded with`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    let image = Request.Image.file(Fixtures.url("images/exif_6.jpg").path(percentEncoded: false))
    var request = Self.base()
    request.prompt = .messages([ChatMessage(question: "What is it?", imageCount: 1)])
    request.recordsTensors = true
    var features: [[UInt8]] = []
    for isUpright in [false, true] {
      request.appliesOrientation = isUpright
      request.images = [image]
      features.append(try Trace(of: request, model).tensors.bytes("features"))
      let encoded = try model.encode(image, appliesOrientation: isUpright, threads: 1)
      request.appliesOrientation = !isUpright
      request.images = [.features(encoded)]
      features.append(try Trace(of: request, model).tensors.bytes("features"))
    }
    #expect(features[0] == features[1] && features[2] == features[3] && features[0] != features[2])
  }

  @Test func `refuses an image that was encoded by another model`() throws {
    let directory = Goldens.path("models/tiny-llava-1.5")
    let (one, other) = (try VisionLanguageModel(directory: directory), try VisionLanguageModel(directory: directory))
    let copy = one
    let encoded = try one.encode(Self.images[1], threads: 1)
    #expect(throws: Never.self) { try copy.encode(.features(encoded), threads: 1) }
    #expect(throws: RequestError.generation(.foreignImage)) { try other.encode(.features(encoded), threads: 1) }
  }

  @Test func `a request contains the whole conversation, with each image in its turn`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    var chat = Chat()
    chat.add(try model.encode(Self.images[0], threads: 1))
    #expect(try prompt(chat, "A", model) == "USER: <image>\nA ASSISTANT:")
    // The next request without `complete`, as after a turn that failed.
    #expect(try prompt(chat, "B", model) == "USER: <image>\nB ASSISTANT:")
    chat.complete("B", answer: "Yes.")
    #expect(try prompt(chat, "C", model) == "USER: <image>\nB ASSISTANT: Yes.</s>USER: C ASSISTANT:")
    chat.add(try model.encode(Self.images[1], threads: 1))
    let request = chat.request("D <image>", like: Self.base())
    #expect(request.images.count == 2)
    #expect(
      try model.rendered(request.prompt) == "USER: <image>\nB ASSISTANT: Yes.</s>USER: D <image> ASSISTANT:")
    chat.complete("D <image>", answer: "No.")
    #expect(chat.images.count == 2 && chat.newImages.isEmpty && chat.messages.count == 4)
  }

  private func prompt(_ chat: Chat, _ question: String, _ model: VisionLanguageModel) throws -> String {
    try model.rendered(chat.request(question, like: Self.base()).prompt)
  }

  // MARK: - System prompts

  @Test func `renders a request's system prompt, or names the template that has no place for it`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    let question = Request.Prompt.messages([ChatMessage(role: .user, parts: [.text("Q")])])
    #expect(try model.rendered(question, systemPrompt: "Be brief.") == "Be brief. USER: Q ASSISTANT:")
    #expect(throws: PromptError.systemPromptForRenderedPrompt) {
      try model.rendered(.rendered("USER: Q ASSISTANT:"), systemPrompt: "")
    }
    #expect(throws: PromptError.systemPromptForRenderedPrompt) { try model.tokens(of: .tokens([1]), systemPrompt: "S") }

    let other = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-next-mistral"))
    #expect(try other.rendered(question, systemPrompt: "") == "[INST] Q [/INST]")
    let error = #expect(throws: PromptError.systemPromptUnsupported(template: "chat_template.json")) {
      try other.rendered(question, systemPrompt: "S")
    }
    #expect(error?.description.contains("chat_template.json") == true && error?.description.contains("\n") == false)
  }

  @Test func `the prompt of a session contains the request's system prompt`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    var request = Self.base()
    request.prompt = .messages([ChatMessage(role: .user, parts: [.text("Q")])])
    request.systemPrompt = "Be brief."
    let tokens = try Session(model, request, threads: 1).report.promptTokens
    #expect(tokens == model.tokenizer.encodePrompt("Be brief. USER: Q ASSISTANT:").map(Int.init))
  }
}
