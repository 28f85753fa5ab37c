import Foundation
import PDrop
import TestSupport
import Testing
import Tokenizers

private struct ChatCase: Decodable {
  struct Message: Decodable {
    struct Content: Decodable {
      var type: String
      var text: String?
    }

    var role: String
    var content: [Content]
  }

  var model: String
  var messages: [Message]
  var prompt: String
  var promptIDs: [Int32]

  var chat: [ChatMessage] {
    messages.map { message in
      ChatMessage(
        role: ChatMessage.Role(rawValue: message.role) ?? .user,
        parts: message.content.map { $0.type == "image" ? .image : .text($0.text ?? "") })
    }
  }

  enum CodingKeys: String, CodingKey {
    case model, messages, prompt
    case promptIDs = "prompt_ids"
  }
}

@Suite struct ChatTemplateTests {
  private static let question = ChatMessage(role: .user, parts: [.image, .text("Q")])
  private static let dialogue = [
    question, ChatMessage(role: .assistant, parts: [.text("Yes.")]), ChatMessage(role: .user, parts: [.text("R")]),
  ]

  @Test func `renders and encodes conversations as the checkpoints' own templates do`() throws {
    for golden in try Goldens.json("chat_cases.json", as: [ChatCase].self) {
      let names =
        golden.model == "tiny-llava-next-vicuna" ? [golden.model, golden.model + "-newnames"] : [golden.model]
      for name in names {
        let directory = Goldens.url("models/" + name)
        let template = try #require(try ChatTemplate.load(directory: directory))
        let prompt = template.render(golden.chat)
        #expect(prompt == golden.prompt)
        #expect(try Tokenizer(directory: directory).encodePrompt(prompt) == golden.promptIDs)
      }
    }
  }

  /// Published templates, shortened where nothing depends on it, and their rendering of the system message `S` followed
  /// by the dialogue.
  private static let published = [
    (
      "{% for message in messages %}{{ message['role'].upper() + ': ' }}{% for c in message['content'] | "
        + "selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}{% for c in message['content'] %}"
        + "{{ c['text'] + ' ' }}{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
      "SYSTEM: S USER: <image>\nQ ASSISTANT: Yes. USER: R ASSISTANT:"
    ),
    (
      "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
        + "{# Images \"first\" #}{{ \"<image>\\n\" }}{{ content[\"text\"] + \" \"}}{% generation %}{{ content['text'] + ' '}}"
        + "{% endgeneration %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
      "S USER: <image>\nQ ASSISTANT: Yes. USER: R ASSISTANT:"
    ),
    (
      "{% for message in messages %}{% if message['role'] == 'system' %}{{ '<<SYS>>\\n' + message['content'][0]['text'] "
        + "+ '\\n<</SYS>>\\n\\n' }}{% elif message['role'] == 'user' %}{{ '[INST] ' }}{{ '<image>\\n' }}"
        + "{{ content['text'] }}{{ ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' }}{{ content['text'] }}"
        + "{{ '</s>' }}{% endif %}{% endfor %}",
      "<<SYS>>\nS\n<</SYS>>\n\n[INST] <image>\nQ [/INST] Yes.</s>[INST] R [/INST]"
    ),
    (
      "{% for message in messages %}{% if message['role'] == 'system' %}{{ '<<SYS>>\\n' + message['content'][0]['text'] "
        + "+ '\\n<</SYS>>\\n\\n' }}{% elif message['role'] == 'user' %}{{ '[INST] ' }}{{ '<image>\\n' }}"
        + "{{ content['text'] }}{{' [/INST]' }}{% elif message['role'] == 'assistant' %}"
        + "{{ ' ' + message['content'][0]['text'] + '</s> '}}{% endif %}{% endfor %}",
      "<<SYS>>\nS\n<</SYS>>\n\n[INST] <image>\nQ [/INST] Yes.</s> [INST] R [/INST]"
    ),
    (
      "{% for message in messages %}{% if message['role'] == 'system' %}{{ '<<SYS>>\\n' + message['content'][0]['text'] "
        + "+ '\\n<</SYS>>\\n\\n' }}{% elif message['role'] == 'user' %}{{ '[INST] ' }}{{ '<image>\\n' }}"
        + "{{ content['text'] }}{{' [/INST]' }}{% elif message['role'] == 'assistant' %}"
        + "{{ ' ' + message['content'][0]['text'] + '<\\\\s> '}}{% endif %}{% endfor %}",
      "<<SYS>>\nS\n<</SYS>>\n\n[INST] <image>\nQ [/INST] Yes.<\\s> [INST] R [/INST]"
    ),
    (
      "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}{{ '<image>' }}{{ '\\n' + "
        + "content['text'] }}{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}"
        + "{{ '<|im_start|>assistant\\n' }}{% endif %}",
      "<|im_start|>system\n\nS<|im_end|><|im_start|>user\n<image>\nQ<|im_end|><|im_start|>assistant\n\nYes.<|im_end|>"
        + "<|im_start|>user\n\nR<|im_end|><|im_start|>assistant\n"
    ),
    (
      "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}{{ '<image>\\n' }}{{ c['text'] }}"
        + "{{ '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
      "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n<image>\nQ<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n"
        + "<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n"
    ),
    (
      "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
        + "{# Render all images first #}{{ '<image>\\n' }}{{ content['text'] }}{{ '<|eot_id|>' }}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
      "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n<image>\nQ"
        + "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nYes.<|eot_id|><|start_header_id|>user"
        + "<|end_header_id|>\n\nR<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    (
      "{{ bos_token }}Be kind. {% for m in messages %}{% if m['role'] != 'system' %}{{ m['role'] | upper }}: {% endif %}"
        + "<image>\n{{ c['text'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}{% else %} {% endif %}{% endfor %}"
        + "ASSISTANT:",
      "Be kind. S USER: <image>\nQ ASSISTANT: Yes.</s>USER: R ASSISTANT:"
    ),
    (
      "Be kind.\n{% for m in messages %}{{ m['role'].upper() + ': ' }}<image>{{ c['text'] + ' ' }}{% endfor %}ASSISTANT:",
      "Be kind.\nSYSTEM: S USER: <image>Q ASSISTANT: Yes. USER: R ASSISTANT:"
    ),
  ]

  @Test(arguments: published)
  func `recognises published templates`(source: String, expected: String) throws {
    let template = try #require(ChatTemplate.recognise(chatTemplate: source))
    #expect(template.render([ChatMessage(role: .system, parts: [.text("S")])] + Self.dialogue) == expected)
  }

  @Test(arguments: published)
  func `places a system prompt where published templates have theirs`(source: String, expected: String) throws {
    let template = try #require(ChatTemplate.recognise(chatTemplate: source))
    let messages = [ChatMessage(role: .system, parts: [.text("Old")])] + Self.dialogue
    let replaced = expected.replacing("Be kind. ", with: "").replacing("Be kind.\nSYSTEM: S ", with: "S\n")
    #expect(template.render(messages, systemPrompt: "S") == replaced)
  }

  /// The expected text is what the checkpoints' own templates render for a system message. Vicuna's template begins
  /// with a system prompt, which is replaced.
  @Test(arguments: [
    ("models/tiny-llava-1.5", "S USER: <image>\nQ ASSISTANT: Yes.</s>USER: R ASSISTANT:"),
    ("models/tiny-llava-next-vicuna", "S USER: <image>\nQ ASSISTANT: Yes.</s>USER: R ASSISTANT:"),
    ("models/tiny-llava-next-vicuna-newnames", "S USER: <image>\nQ ASSISTANT: Yes.</s>USER: R ASSISTANT:"),
    ("../../Models/tiny-textvqa", "SYSTEM: S USER: <image>\nQ ASSISTANT: Yes. USER: R ASSISTANT:"),
  ])
  func `places a system prompt in the checkpoints' templates`(directory: String, expected: String) throws {
    let template = try #require(try ChatTemplate.load(directory: Goldens.url(directory)))
    #expect(template.supportsSystemPrompt)
    #expect(template.render(Self.dialogue, systemPrompt: "S") == expected)
  }

  @Test func `detects a template without a place for a system prompt`() throws {
    let template = try #require(try ChatTemplate.load(directory: Goldens.url("models/tiny-llava-next-mistral")))
    #expect(!template.supportsSystemPrompt)
    #expect(
      template.render(Self.dialogue, systemPrompt: "S") == "[INST] <image>\nQ [/INST] Yes.</s>[INST] R [/INST]")
  }

  @Test(arguments: [
    "", "{% for m in messages %}{{ m['content'] }}{% endfor %}", "[INST] {{ x }} [/INST]", "<image> ASSISTANT: upper",
    "{{ system }}{% for m in messages %}{{ m['role'].upper() }}: <image>{% endfor %}ASSISTANT:",
  ])
  func `recognises no other templates`(source: String) { #expect(ChatTemplate.recognise(chatTemplate: source) == nil) }

  @Test func `reads template files in order of precedence, and names the one that is not recognised`() throws {
    let directory = FileManager.default.temporaryDirectory.appending(path: "ChatTemplateTests-\(UUID())")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    func write(_ name: String, _ text: String) throws {
      try Data(text.utf8).write(to: directory.appending(path: name))
    }
    #expect(try ChatTemplate.load(directory: directory) == nil)
    // A language model's own template has no images, so it does not describe LLaVA's prompts.
    try write("tokenizer_config.json", #"{"chat_template": "{% %}[INST] {{ message['content'] }} [/INST]"}"#)
    #expect(try ChatTemplate.load(directory: directory) == nil)
    try write(
      "tokenizer_config.json", #"{"chat_template": [{"name": "default", "template": "{% %}[INST][/INST]<image>"}]}"#)
    #expect(try ChatTemplate.load(directory: directory)?.name == "mistral")
    try write("chat_template.jinja", "{% %}<|im_start|><image><|im_end|>")
    #expect(try ChatTemplate.load(directory: directory)?.name == "chatml")
    try write("chat_template.json", #"{"chat_template": "hello"}"#)
    #expect(throws: PromptError.unrecognisedTemplate(file: "chat_template.json")) {
      try ChatTemplate.load(directory: directory)
    }
    try write("chat_template.json", #"{"chat_template": 3}"#)
    #expect(throws: PromptError.noTemplate(file: "chat_template.json", found: "3")) {
      try ChatTemplate.load(directory: directory)
    }
  }
}
