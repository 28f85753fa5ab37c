import PDrop
import Testing

@Suite struct PromptTemplateTests {
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
  func `writes one question`(name: String, expected: String) throws {
    let template = try #require(PromptTemplate(named: name))
    #expect(template.render([Self.question]) == expected)
  }

  @Test(arguments: [
    ("vicuna_v1", user + " USER: <image>\nQ ASSISTANT: Yes.</s>USER: Q ASSISTANT:"),
    ("mistral_instruct", "[INST] <image>\nQ [/INST] Yes. </s>[INST] Q [/INST]"),
    ("llava_llama_2", "[INST] <<SYS>>\n\(llama2)\n<</SYS>>\n\n<image>\nQ [/INST] Yes. </s><s>[INST] Q [/INST]"),
    ("llava-1.5-hf", "USER: <image>\nQ ASSISTANT: Yes. USER: Q ASSISTANT:"),
    ("plain", "<image>Q\nYes.\nQ\n"),
  ])
  func `writes a second question`(name: String, expected: String) throws {
    let template = try #require(PromptTemplate(named: name))
    let messages = [
      Self.question, ChatMessage(role: .assistant, parts: [.text("Yes.")]),
      ChatMessage(role: .user, parts: [.text("Q")]),
    ]
    #expect(template.render(messages) == expected)
  }

  @Test func `asks for no answer when told not to`() {
    #expect(PromptTemplate.llava15HF.render([Self.question], addGenerationPrompt: false) == "USER: <image>\nQ ")
  }

  @Test func `takes another system text, from the caller or from the first message`() {
    let system = ChatMessage(role: .system, parts: [.text("Be brief.")])
    let expected = "Be brief. USER: <image>\nQ ASSISTANT:"
    #expect(PromptTemplate.vicunaV1.render([Self.question], systemText: "Be brief.") == expected)
    #expect(PromptTemplate.vicunaV1.render([system, Self.question]) == expected)
    #expect(PromptTemplate.llava15HF.render([system, Self.question]) == expected)
    #expect(
      PromptTemplate.mistralInstruct.render([system, Self.question])
        == "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n<image>\nQ [/INST]")
    #expect(PromptTemplate.vicunaV1.render([Self.question], systemText: "") == "USER: <image>\nQ ASSISTANT:")
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
    ("plain", "<image>Q\nYes.\nQ\n"),
  ])
  func `puts another system text in the template's own place`(name: String, expected: String) throws {
    let template = try #require(PromptTemplate(named: name))
    let old = ChatMessage(role: .system, parts: [.text("Old")])
    let turns = [
      Self.question, ChatMessage(role: .assistant, parts: [.text("Yes.")]),
      ChatMessage(role: .user, parts: [.text("Q")]),
    ]
    #expect(template.render(turns, systemText: "S") == expected)
    #expect(template.render([old] + turns, systemText: "S") == expected)
    #expect(template.takesSystemText == (name != "plain"))
  }

  @Test func `leaves out a system text that is empty`() {
    let old = ChatMessage(role: .system, parts: [.text("Old")])
    for template in [PromptTemplate.vicunaV1, .llava15HF] {
      #expect(template.render([old, Self.question], systemText: "") == "USER: <image>\nQ ASSISTANT:")
    }
    #expect(PromptTemplate.mistralInstruct.render([old, Self.question], systemText: "") == "[INST] <image>\nQ [/INST]")
  }

  @Test func `puts pictures first and knows no other names`() {
    let message = ChatMessage(role: .user, parts: [.text("A"), .image, .text("B"), .image])
    #expect(PromptTemplate.mistralInstruct.render([message]) == "[INST] <image>\n<image>\nAB [/INST]")
    #expect(PromptTemplate(named: "llava_v0") == nil)
  }
}
