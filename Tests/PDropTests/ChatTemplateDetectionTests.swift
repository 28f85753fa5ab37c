import Foundation
import PDrop
import TestSupport
import Testing

@Suite struct ChatTemplateDetectionTests {
  @Test(arguments: [
    // The original checkpoints: values of their config.json, and their names.
    ("llava", "llama", 32000, "llava-v1.5-7b", "vicuna_v1"),
    ("llava_llama", "llama", 32000, "llava-v1.6-vicuna-13b", "vicuna_v1"),
    ("llava_mistral", "mistral", 32000, "llava-v1.6-mistral-7b", "mistral_instruct"),
    ("llava", "llama", 64000, "llava-v1.6-34b", "chatml_direct"),
    ("llava_llama", "llama", 64000, "checkpoint", "chatml_direct"),
    ("llava_llama", "llama", 128_256, "llama3-llava-next-8b", "llava_llama_3"),
    ("llava_qwen", "qwen2", 152_064, "llava-next-qwen-7b", "qwen_1_5"),
    ("llava", "llama", 32000, "llava-llama-2-13b-chat-lightning-preview", "llava_llama_2"),
    // Converted checkpoints without their chat template.
    ("llava_next", "mistral", 32064, "copy", "mistral_instruct"),
    ("llava_next", "llama", 64064, "copy", "chatml_direct"),
    ("llava_next", "llama", 128_320, "copy", "llava_llama_3"),
    ("llava_next", "qwen2", 152_000, "copy", "qwen_1_5"),
    // By name only; llama-2 is tried first, as in the original code.
    ("llava", "llama", 32000, "My-LLaVA-Mistral", "mistral_instruct"),
    ("llava", "llama", 32000, "LLaVA-34B", "chatml_direct"),
    ("llava", "llama", 32000, "llava-llama-2-mistral", "llava_llama_2"),
    // The configuration takes precedence over the name.
    ("llava_mistral", "mistral", 32000, "llama-2-like", "mistral_instruct"),
    ("llava_llama", "llama", 128_256, "not-mistral", "llava_llama_3"),
  ])
  func `the model family selects the template`(
    type: String, text: String, vocabulary: Int, name: String, expected: String
  ) {
    let choice = ChatTemplateDetection(modelType: type, textModelType: text, vocabularySize: vocabulary, name: name)
    #expect(choice.template.name == expected, "\(choice)")
    #expect(!choice.isGuess)
  }

  @Test(arguments: [
    ("LlavaMistralForCausalLM", nil, "mistral_instruct"),
    ("LlavaLlamaForCausalLM", "liuhaotian/llava-v1.6-mistral-7b", "mistral_instruct"),
    ("LlavaQwenForCausalLM", "lmsys/vicuna-7b-v1.5", "qwen_1_5"),
    ("LlavaLlamaForCausalLM", "/home/mistral/checkpoints/vicuna-7b-v1.5", "vicuna_v1"),
  ])
  func `architecture and saved name select the template before the directory's name`(
    architecture: String, nameOrPath: String?, expected: String
  ) {
    let choice = ChatTemplateDetection(
      modelType: "llava", textModelType: "llama", architectures: [architecture], nameOrPath: nameOrPath,
      vocabularySize: 32000, name: "llava-llama-2")
    #expect(choice.template.name == expected && !choice.isGuess, "\(choice)")
  }

  @Test(arguments: ["model", "", "llava-1.5-7b-hf"])
  func `guesses vicuna_v1 where the family is not detected`(name: String) {
    let choice = ChatTemplateDetection(modelType: "llava", textModelType: "llama", vocabularySize: 32064, name: name)
    #expect(choice == ChatTemplateDetection(.vicunaV1, .nothing))
    #expect(choice.isGuess)
    #expect(choice.description == "vicuna_v1, the default")
  }

  @Test func `describes the reason for the choice`() {
    func reason(_ type: String, _ vocabulary: Int, _ name: String) -> String {
      ChatTemplateDetection(modelType: type, textModelType: "llama", vocabularySize: vocabulary, name: name).description
    }
    #expect(reason("llava_mistral", 1, "a") == "mistral_instruct, since the model type of config.json is llava_mistral")
    #expect(reason("llava", 64000, "a") == "chatml_direct, since the vocabulary of 64000 is Yi's")
    #expect(reason("llava", 1, "LLaVA-v1.5") == "vicuna_v1, since the directory's name contains 'v1.5'")
  }

  @Test func `prefers the requested template, then the directory's own`() throws {
    let directory = Goldens.path("models/tiny-llava-next-vicuna-newnames")
    var options = VisionLanguageModel.Options()
    #expect(
      try VisionLanguageModel(directory: directory, options: options).templateDetection.reason
        == .file("chat_template.jinja"))
    options.template = .plain
    let given = try VisionLanguageModel(directory: directory, options: options).templateDetection
    #expect(given.template.source == ChatTemplate.plain.source && given.reason == .given)
  }
}
