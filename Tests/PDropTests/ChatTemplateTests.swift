import Foundation
import PDrop
import Storage
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
        let tokenizer = try Tokenizer(directory: directory)
        let template = try #require(try ChatTemplate.load(directory: directory, tokenizer: tokenizer))
        let prompt = try template.render(golden.chat)
        #expect(prompt == golden.prompt)
        #expect(tokenizer.encodePrompt(prompt) == golden.promptIDs)
      }
    }
  }

  /// Templates of the published families and changes of them, and their rendering of the dialogue without and with the
  /// system message `S`, by transformers.
  private static let published: [(source: String, plain: String, system: String)] = [
    (
      "{% for message in messages %}{{ message['role'].upper() + ': ' }}{% for c in message['content'] | "
        + "selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}{% for c in message['content'] | "
        + "selectattr('type', 'equalto', 'text') %}{{ c['text'] + ' ' }}{% endfor %}{% endfor %}"
        + "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
      "USER: <image>\nQ ASSISTANT: Yes. USER: R ASSISTANT:",
      "SYSTEM: S USER: <image>\nQ ASSISTANT: Yes. USER: R ASSISTANT:"
    ),
    (
      "{% for message in messages %}{% if message['role'] == 'system' %}{{ '<<SYS>>\\n' + message['content'][0]['text'] "
        + "+ '\\n<</SYS>>\\n\\n' }}{% elif message['role'] == 'user' %}{{ '[INST] ' }}{% for content in "
        + "message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}{% for content in "
        + "message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] }}{% endfor %}{{ ' [/INST]' }}"
        + "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'][0]['text'] + '<\\\\s> '}}{% endif %}"
        + "{% endfor %}",
      "[INST] <image>\nQ [/INST] Yes.<\\s> [INST] R [/INST]",
      "<<SYS>>\nS\n<</SYS>>\n\n[INST] <image>\nQ [/INST] Yes.<\\s> [INST] R [/INST]"
    ),
    (
      "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}{% for c in message.content if c.type "
        + "== 'image' %}{{ '<image>' }}{% endfor %}{% for c in message.content if c.type == 'text' %}{{ '\\n' + "
        + "c['text'] }}{% endfor %}{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}"
        + "{{ '<|im_start|>assistant\\n' }}{% endif %}",
      "<|im_start|>user\n<image>\nQ<|im_end|><|im_start|>assistant\n\nYes.<|im_end|><|im_start|>user\n\nR<|im_end|>"
        + "<|im_start|>assistant\n",
      "<|im_start|>system\n\nS<|im_end|><|im_start|>user\n<image>\nQ<|im_end|><|im_start|>assistant\n\nYes.<|im_end|>"
        + "<|im_start|>user\n\nR<|im_end|><|im_start|>assistant\n"
    ),
    // A default system prompt that a system message replaces.
    (
      "{% if messages[0]['role'] != 'system' %}{{ 'Be nice. ' }}{% endif %}{% for m in messages %}"
        + "{{ m['role'].upper() + ': ' }}{% for c in m['content'] %}{{ '<image>\\n' if c['type'] == 'image' else "
        + "c['text'] + ' ' }}{% endfor %}{% endfor %}ASSISTANT:",
      "Be nice. USER: <image>\nQ ASSISTANT: Yes. USER: R ASSISTANT:",
      "SYSTEM: S USER: <image>\nQ ASSISTANT: Yes. USER: R ASSISTANT:"
    ),
    // Text before images, statements on lines of their own, and a final line break.
    (
      "{% for m in messages %}\n{{ m.role }}|{% for c in m.content | rejectattr('type', 'eq', 'image') %}"
        + "{{ c.text | trim }}{% endfor %}{% for c in m.content if c.type == 'image' %}<image>{% endfor %}\n{% endfor %}\n"
        + "{%- if add_generation_prompt %}\n\nassistant|\n\n{% endif %}\n",
      "user|Q<image>assistant|Yes.user|R\nassistant|\n\n", "system|Suser|Q<image>assistant|Yes.user|R\nassistant|\n\n"
    ),
  ]

  private static let system = ChatMessage(role: .system, parts: [.text("S")])

  @Test(arguments: published)
  func `renders messages as transformers does`(source: String, plain: String, system: String) throws {
    let template = try ChatTemplate(name: "a", source: source)
    #expect(try template.render(Self.dialogue) == plain)
    #expect(try template.render([Self.system] + Self.dialogue) == system)
  }

  @Test(arguments: published)
  func `renders a system prompt as the first message`(source: String, plain: String, system: String) throws {
    let template = try ChatTemplate(name: "a", source: source)
    let old = ChatMessage(role: .system, parts: [.text("Old")])
    #expect(try template.render(Self.dialogue, systemPrompt: "S") == system)
    #expect(try template.render([old] + Self.dialogue, systemPrompt: "S") == system)
  }

  @Test func `an empty system prompt leaves out system messages and defaults`() throws {
    let old = ChatMessage(role: .system, parts: [.text("Old")])
    let (source, plain, _) = Self.published[0]
    #expect(try ChatTemplate(name: "a", source: source).render([old] + Self.dialogue, systemPrompt: "") == plain)
    let replaceable = try ChatTemplate(
      name: "a",
      source: "{% if messages[0].role != 'system' %}Be nice.{% endif %}{% for m in messages %}"
        + "{{ m.content[-1].text }}{% endfor %}")
    #expect(try replaceable.render([Self.question]) == "Be nice.Q")
    #expect(try replaceable.render([Self.question], systemPrompt: "") == "Q")
  }

  /// The templates of tiny-llava-next-vicuna begin with a system prompt as plain text, which is replaced.
  @Test(arguments: [
    ("models/tiny-llava-1.5", "S USER: <image>\nQ ASSISTANT: Yes.</s>USER: R ASSISTANT:"),
    ("models/tiny-llava-next-vicuna", "S USER: <image>\nQ ASSISTANT: Yes.</s>USER: R ASSISTANT:"),
    ("models/tiny-llava-next-vicuna-newnames", "S USER: <image>\nQ ASSISTANT: Yes.</s>USER: R ASSISTANT:"),
    ("../../Models/tiny-textvqa", "SYSTEM: S USER: <image>\nQ ASSISTANT: Yes. USER: R ASSISTANT:"),
  ])
  func `places a system prompt in the checkpoints' templates`(directory: String, expected: String) throws {
    let template = try #require(try Self.load(Goldens.url(directory)))
    #expect(try template.render(Self.dialogue, systemPrompt: "S") == expected)
  }

  @Test func `replaces a system prompt in plain text after a BOS token`() throws {
    let template = try ChatTemplate(
      name: "a",
      source: "{{ bos_token }}Be kind. {% for m in messages %}{{ m.role }}: {{ m.content[-1].text }}{{ eos_token }}"
        + "{% endfor %}")
    #expect(try template.render([Self.question]) == "<s>Be kind. user: Q</s>")
    #expect(try template.render([Self.question], systemPrompt: "S") == "<s>S user: Q</s>")
    #expect(try template.render([Self.question], systemPrompt: "") == "<s>user: Q</s>")
  }

  @Test func `refuses a system prompt that the template omits`() throws {
    let template = try #require(try Self.load(Goldens.url("models/tiny-llava-next-mistral")))
    #expect(throws: PromptError.systemPromptUnsupported(template: "chat_template.json")) {
      try template.render(Self.dialogue, systemPrompt: "S")
    }
  }

  @Test func `names the template and the line of an error`() throws {
    #expect(throws: PromptError.invalidTemplate(name: "a", reason: "line 2: the filter 'groupby' is not supported")) {
      try ChatTemplate(name: "a", source: "{{ 1 }}\n{{ messages | groupby('role') }}")
    }
    let strict = try ChatTemplate(
      name: "a", source: "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}")
    let error = #expect(throws: PromptError.self) { try strict.render([Self.system]) }
    #expect(error?.description.contains("no system role") == true)
    #expect(error?.category == .input)
  }

  private static func load(_ directory: URL) throws -> ChatTemplate? {
    try ChatTemplate.load(directory: directory, tokenizer: Tokenizer(directory: directory))
  }

  @Test func `reads template files in the order of transformers`() throws {
    let directory = FileManager.default.temporaryDirectory.appending(path: "ChatTemplateTests-\(UUID())")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    let tokenizer = try Tokenizer(directory: Goldens.url("models/tiny-llava-1.5"))
    func write(_ name: String, _ text: String) throws {
      try Data(text.utf8).write(to: directory.appending(path: name))
    }
    func load() throws -> ChatTemplateFiles { try ChatTemplateFiles(directory: directory, tokenizer: tokenizer) }
    func rendered() throws -> String? { try load().template?.render([Self.question]) }
    func source(_ start: String) -> String {
      start + "{% for c in messages[0].content %}{{ '<image>' if c.type == 'image' else c.text }}{% endfor %}"
    }

    #expect(try load().template == nil)
    // The language model's own template has no place for images.
    try write("tokenizer_config.json", #"{"chat_template": "{{ 'Human: ' + messages[0]['content'] }}"}"#)
    #expect(try load().template == nil)
    #expect(try load().passedOver == ["tokenizer_config.json"])
    try write(
      "tokenizer_config.json",
      #"{"chat_template": [{"name": "tools", "template": "T"}, {"name": "default", "template": "\#(source("1"))"}]}"#)
    #expect(try rendered() == "1<image>Q")
    try write("processor_config.json", #"{"patch_size": 14, "chat_template": "\#(source("2"))"}"#)
    #expect(try rendered() == "2<image>Q")
    try write("chat_template.json", #"{"chat_template": {"default": "\#(source("3"))"}}"#)
    #expect(try rendered() == "3<image>Q")
    try write("chat_template.jinja", source("4"))
    #expect(try rendered() == "4<image>Q")
    try write("chat_template.jinja", "hello")
    #expect(try rendered() == "3<image>Q")
    #expect(try load().passedOver == ["chat_template.jinja"])

    try write("chat_template.json", #"{"chat_template": 3}"#)
    #expect(throws: PromptError.noTemplate(file: "chat_template.json", found: "3")) { try load() }
    try write("chat_template.json", #"{"chat_template": "{% if %}"}"#)
    let error = #expect(throws: PromptError.self) { try load() }
    #expect(error?.description.contains("chat_template.json: line 1") == true)
    #expect(error?.category == .model)
    try write("chat_template.jinja", String(repeating: "{#", count: 150_000))
    #expect(throws: PromptError.self) { try load() }
  }

  @Test func `adds no second BOS token`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    let tokens = try model.tokens(of: .rendered("USER: Hi"))
    #expect(tokens[0] == 1 && tokens[1] != 1)
    #expect(try model.tokens(of: .rendered("<s>USER: Hi")) == tokens)
    #expect(model.hasOwnBOSToken(.rendered("<s>USER: Hi")))
    #expect(!model.hasOwnBOSToken(.rendered("USER: <s>")))
    var options = VisionLanguageModel.Options()
    options.template = try ChatTemplate(name: "a", source: "{{ bos_token }}USER: {{ messages[0].content[0].text }}")
    let withBOS = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"), options: options)
    #expect(try withBOS.tokens(of: .messages([ChatMessage(question: "Hi", imageCount: 0)])) == tokens)
  }
}
