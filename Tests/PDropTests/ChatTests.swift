import Foundation
import ModelTestSupport
import PDrop
import TestSupport
import Testing
import Tokenizers

@Suite struct ChatTests {
  static let pictures = ["images/gray_300x400.png", "images/tiny_20x30.png"].map {
    Request.Picture.file(Goldens.path($0))
  }

  static func base() -> Request {
    var options = GenerationOptions()
    options.maxTokens = 3
    options.ignoresEndToken = true
    return Request(prompt: .messages([]), options: options)
  }

  @Test(arguments: ["tiny-llava-1.5", "tiny-llava-next-mistral"])
  func `a picture that is kept answers as one encoded anew, byte for byte`(name: String) throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/\(name)"))
    let picture = Self.pictures[1]
    let kept = try model.encode(picture, threads: 1)
    var request = Self.base()
    request.prompt = .messages([ChatMessage(question: "What is it?", pictureCount: 1)])
    request.recordsTensors = true
    request.pictures = [picture]
    let anew = try Trace(of: request, model)
    request.pictures = [.features(kept)]
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

  @Test func `keeps the turn that a picture is put upright by`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    let picture = Request.Picture.file(Fixtures.url("images/exif_6.jpg").path(percentEncoded: false))
    var request = Self.base()
    request.prompt = .messages([ChatMessage(question: "What is it?", pictureCount: 1)])
    request.recordsTensors = true
    var features: [[UInt8]] = []
    for isUpright in [false, true] {
      request.appliesOrientation = isUpright
      request.pictures = [picture]
      features.append(try Trace(of: request, model).tensors.bytes("features"))
      let kept = try model.encode(picture, appliesOrientation: isUpright, threads: 1)
      request.appliesOrientation = !isUpright
      request.pictures = [.features(kept)]
      features.append(try Trace(of: request, model).tensors.bytes("features"))
    }
    #expect(features[0] == features[1] && features[2] == features[3] && features[0] != features[2])
  }

  @Test func `refuses a picture that another model has encoded`() throws {
    let directory = Goldens.path("models/tiny-llava-1.5")
    let (one, other) = (try VisionLanguageModel(directory: directory), try VisionLanguageModel(directory: directory))
    let copy = one
    let kept = try one.encode(Self.pictures[1], threads: 1)
    #expect(throws: Never.self) { try copy.encode(.features(kept), threads: 1) }
    #expect(throws: GenerationError.foreignPicture) { try other.encode(.features(kept), threads: 1) }
  }

  @Test func `asks with the whole conversation, pictures where they came`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    var chat = Chat()
    chat.add(try model.encode(Self.pictures[0], threads: 1))
    #expect(try prompt(chat, "A", model) == "USER: <image>\nA ASSISTANT:")
    // Asked again, as after a turn that failed.
    #expect(try prompt(chat, "B", model) == "USER: <image>\nB ASSISTANT:")
    chat.complete("B", answer: "Yes.")
    #expect(try prompt(chat, "C", model) == "USER: <image>\nB ASSISTANT: Yes.</s>USER: C ASSISTANT:")
    chat.add(try model.encode(Self.pictures[1], threads: 1))
    let request = chat.request("D <image>", like: Self.base())
    #expect(request.pictures.count == 2)
    #expect(
      try model.rendered(request.prompt) == "USER: <image>\nB ASSISTANT: Yes.</s>USER: D <image> ASSISTANT:")
    chat.complete("D <image>", answer: "No.")
    #expect(chat.pictures.count == 2 && chat.newPictures.isEmpty && chat.messages.count == 4)
  }

  private func prompt(_ chat: Chat, _ question: String, _ model: VisionLanguageModel) throws -> String {
    try model.rendered(chat.request(question, like: Self.base()).prompt)
  }

  // MARK: - System texts

  @Test func `writes a request's system text, or says that there is no place for it`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    let question = Request.Prompt.messages([ChatMessage(role: .user, parts: [.text("Q")])])
    #expect(try model.rendered(question, systemText: "Be brief.") == "Be brief. USER: Q ASSISTANT:")
    #expect(throws: PromptError.systemTextForFinishedPrompt) {
      try model.rendered(.rendered("USER: Q ASSISTANT:"), systemText: "")
    }
    #expect(throws: PromptError.systemTextForFinishedPrompt) { try model.tokens(of: .tokens([1]), systemText: "S") }

    let other = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-next-mistral"))
    #expect(try other.rendered(question, systemText: "") == "[INST] Q [/INST]")
    let error = #expect(throws: PromptError.noPlaceForSystemText(template: "mistral")) {
      try other.rendered(question, systemText: "S")
    }
    #expect(error?.description.contains("mistral") == true && error?.description.contains("\n") == false)
  }

  @Test func `reads a request's system text`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    var request = Self.base()
    request.prompt = .messages([ChatMessage(role: .user, parts: [.text("Q")])])
    request.systemText = "Be brief."
    let tokens = try Session(model, request, threads: 1).report.promptTokens
    #expect(tokens == model.tokenizer.encodePrompt("Be brief. USER: Q ASSISTANT:").map(Int.init))
  }
}
