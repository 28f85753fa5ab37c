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
  func `an image that is kept answers as one encoded anew, byte for byte`(name: String) throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/\(name)"))
    let image = Self.images[1]
    let kept = try model.encode(image, threads: 1)
    var request = Self.base()
    request.prompt = .messages([ChatMessage(question: "What is it?", imageCount: 1)])
    request.recordsTensors = true
    request.images = [image]
    let anew = try Trace(of: request, model)
    request.images = [.features(kept)]
    let again = try Trace(of: request, model)
    #expect(again.tensors.names == anew.tensors.names)
    for name in anew.tensors.names {
      #expect(try again.tensors.bytes(name) == anew.tensors.bytes(name), "\(name)")
    }
    #expect(again.report.tokens == anew.report.tokens && again.report.text == anew.report.text)
    #expect(again.report.stages == anew.report.stages)
    #expect(again.report.imageSpans == anew.report.imageSpans && again.report.imageSpans[0][1] == kept.tokenCount)
    #expect(again.report.paperFlops == anew.report.paperFlops)
    #expect(again.report.flops.encode == 0 && again.report.flops.project == 0)
    var whole = again.report
    whole.include(kept)
    #expect(whole.flops == anew.report.flops && whole.flops.encode > 0)
  }

  @Test func `keeps the turn that an image is put upright by`() throws {
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
      let kept = try model.encode(image, appliesOrientation: isUpright, threads: 1)
      request.appliesOrientation = !isUpright
      request.images = [.features(kept)]
      features.append(try Trace(of: request, model).tensors.bytes("features"))
    }
    #expect(features[0] == features[1] && features[2] == features[3] && features[0] != features[2])
  }

  @Test func `refuses an image that another model has encoded`() throws {
    let directory = Goldens.path("models/tiny-llava-1.5")
    let (one, other) = (try VisionLanguageModel(directory: directory), try VisionLanguageModel(directory: directory))
    let copy = one
    let kept = try one.encode(Self.images[1], threads: 1)
    #expect(throws: Never.self) { try copy.encode(.features(kept), threads: 1) }
    #expect(throws: GenerationError.foreignImage) { try other.encode(.features(kept), threads: 1) }
  }

  @Test func `asks with the whole conversation, images where they came`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    var chat = Chat()
    chat.add(try model.encode(Self.images[0], threads: 1))
    #expect(try prompt(chat, "A", model) == "USER: <image>\nA ASSISTANT:")
    // Asked again, as after a turn that failed.
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

  @Test func `writes a request's system prompt, or says that there is no place for it`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    let question = Request.Prompt.messages([ChatMessage(role: .user, parts: [.text("Q")])])
    #expect(try model.rendered(question, systemPrompt: "Be brief.") == "Be brief. USER: Q ASSISTANT:")
    #expect(throws: PromptError.systemPromptForRenderedPrompt) {
      try model.rendered(.rendered("USER: Q ASSISTANT:"), systemPrompt: "")
    }
    #expect(throws: PromptError.systemPromptForRenderedPrompt) { try model.tokens(of: .tokens([1]), systemPrompt: "S") }

    let other = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-next-mistral"))
    #expect(try other.rendered(question, systemPrompt: "") == "[INST] Q [/INST]")
    let error = #expect(throws: PromptError.systemPromptUnsupported(template: "mistral")) {
      try other.rendered(question, systemPrompt: "S")
    }
    #expect(error?.description.contains("mistral") == true && error?.description.contains("\n") == false)
  }

  @Test func `reads a request's system prompt`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    var request = Self.base()
    request.prompt = .messages([ChatMessage(role: .user, parts: [.text("Q")])])
    request.systemPrompt = "Be brief."
    let tokens = try Session(model, request, threads: 1).report.promptTokens
    #expect(tokens == model.tokenizer.encodePrompt("Be brief. USER: Q ASSISTANT:").map(Int.init))
  }
}
