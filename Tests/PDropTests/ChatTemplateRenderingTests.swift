import PDrop
import Testing

@Suite struct ChatTemplateRenderingTests {
  private static let question = ChatMessage(role: .user, parts: [.image, .text("Q")])
  private static let user =
    "A chat between a curious user and an artificial intelligence assistant. "
    + "The assistant gives helpful, detailed, and polite answers to the user's questions."
  private static let human = user.replacing("user", with: "human")
  private static let llama2 =
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    + "provides, and assist the user with a variety of tasks using natural language."

  @Test(arguments: [
    ("vicuna_v1", user + " USER: <image>\nQ ASSISTANT:"),
    ("v1", user + " USER: <image>\nQ ASSISTANT:"),
    ("Llava-V1", human + " USER: <image>\nQ ASSISTANT:"),
    ("mistral-instruct", "[INST] <image>\nQ [/INST]"),
    (
      "mistral_direct",
      "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n<image>\nQ<|im_end|><|im_start|>assistant\n"
    ),
    (
      "chatml_direct",
      "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n<image>\nQ<|im_end|><|im_start|>assistant\n"
    ),
    ("llava_llama_2", "[INST] <<SYS>>\n\(llama2)\n<</SYS>>\n\n<image>\nQ [/INST]"),
    ("plain", "<image>Q\n"),
    ("llava_1.5_hf", "USER: <image>\nQ ASSISTANT:"),
  ])
  func `renders one question`(name: String, expected: String) throws {
    let template = try #require(ChatTemplate(named: name))
    #expect(try template.render([Self.question]) == expected)
  }

  @Test(arguments: [
    ("vicuna_v1", user + " USER: <image>\nQ ASSISTANT: Yes.</s>USER: Q ASSISTANT:"),
    ("mistral_instruct", "[INST] <image>\nQ [/INST] Yes. </s>[INST] Q [/INST]"),
    ("llava_llama_2", "[INST] <<SYS>>\n\(llama2)\n<</SYS>>\n\n<image>\nQ [/INST] Yes. </s><s>[INST] Q [/INST]"),
    ("llava-1.5-hf", "USER: <image>\nQ ASSISTANT: Yes. USER: Q ASSISTANT:"),
    ("plain", "<image>Q\nYes.\nQ\n"),
  ])
  func `renders a second question`(name: String, expected: String) throws {
    let template = try #require(ChatTemplate(named: name))
    let messages = [
      Self.question, ChatMessage(role: .assistant, parts: [.text("Yes.")]),
      ChatMessage(role: .user, parts: [.text("Q")]),
    ]
    #expect(try template.render(messages) == expected)
  }

  @Test func `omits the generation prompt on request`() throws {
    #expect(try ChatTemplate.llava15HF.render([Self.question], addGenerationPrompt: false) == "USER: <image>\nQ ")
  }

  @Test func `uses the system prompt of the caller or of the first message`() throws {
    let system = ChatMessage(role: .system, parts: [.text("Be brief.")])
    let expected = "Be brief. USER: <image>\nQ ASSISTANT:"
    #expect(try ChatTemplate.vicunaV1.render([Self.question], systemPrompt: "Be brief.") == expected)
    #expect(try ChatTemplate.vicunaV1.render([system, Self.question]) == expected)
    #expect(try ChatTemplate.llava15HF.render([system, Self.question]) == expected)
    #expect(
      try ChatTemplate.mistralInstruct.render([system, Self.question])
        == "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n<image>\nQ [/INST]")
    #expect(try ChatTemplate.vicunaV1.render([Self.question], systemPrompt: "") == "USER: <image>\nQ ASSISTANT:")
  }

  @Test(arguments: [
    ("vicuna_v1", "S USER: <image>\nQ ASSISTANT: Yes.</s>USER: Q ASSISTANT:"),
    ("llava_v1", "S USER: <image>\nQ ASSISTANT: Yes.</s>USER: Q ASSISTANT:"),
    ("mistral_instruct", "[INST] <<SYS>>\nS\n<</SYS>>\n\n<image>\nQ [/INST] Yes. </s>[INST] Q [/INST]"),
    ("llava_llama_2", "[INST] <<SYS>>\nS\n<</SYS>>\n\n<image>\nQ [/INST] Yes. </s><s>[INST] Q [/INST]"),
    (
      "chatml_direct",
      "<|im_start|>system\nS<|im_end|><|im_start|>user\n<image>\nQ<|im_end|><|im_start|>assistant\nYes.<|im_end|>"
        + "<|im_start|>user\nQ<|im_end|><|im_start|>assistant\n"
    ),
    (
      "qwen_1_5",
      "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n<image>\nQ<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n"
        + "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
    ),
    (
      "llava_llama_3",
      "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n<image>\nQ"
        + "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nYes.<|eot_id|><|start_header_id|>user"
        + "<|end_header_id|>\n\nQ<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    ("llava-1.5-hf", "S USER: <image>\nQ ASSISTANT: Yes. USER: Q ASSISTANT:"),
  ])
  func `places a system prompt where the template has its own`(name: String, expected: String) throws {
    let template = try #require(ChatTemplate(named: name))
    let old = ChatMessage(role: .system, parts: [.text("Old")])
    let turns = [
      Self.question, ChatMessage(role: .assistant, parts: [.text("Yes.")]),
      ChatMessage(role: .user, parts: [.text("Q")]),
    ]
    #expect(try template.render(turns, systemPrompt: "S") == expected)
    #expect(try template.render([old] + turns, systemPrompt: "S") == expected)
  }

  @Test func `the pretraining format has no place for a system prompt`() {
    #expect(throws: PromptError.systemPromptUnsupported(template: "plain")) {
      try ChatTemplate.plain.render([Self.question], systemPrompt: "S")
    }
  }

  @Test func `omits an empty system prompt`() throws {
    let old = ChatMessage(role: .system, parts: [.text("Old")])
    for template in [ChatTemplate.vicunaV1, .llava15HF] {
      #expect(try template.render([old, Self.question], systemPrompt: "") == "USER: <image>\nQ ASSISTANT:")
    }
    #expect(
      try ChatTemplate.mistralInstruct.render([old, Self.question], systemPrompt: "") == "[INST] <image>\nQ [/INST]")
  }

  @Test func `places images first, and finds no template of another name`() throws {
    let message = ChatMessage(role: .user, parts: [.text("A"), .image, .text("B"), .image])
    #expect(try ChatTemplate.mistralInstruct.render([message]) == "[INST] <image>\n<image>\nAB [/INST]")
    #expect(ChatTemplate(named: "llava_v0") == nil)
  }
}
