extension ChatTemplate {
  /// The templates that can be selected by name.
  public static let named: [ChatTemplate] = [
    .vicunaV1, .llavaV1, .mistralInstruct, .chatMLDirect, .llavaLlama2, .llavaLlama3, .qwen15, .plain, .llava15HF,
  ]

  private static let aliases = [
    "v1": "vicuna_v1", "mistral_direct": "chatml_direct", "llama3": "llava_llama_3", "qwen2": "qwen_1_5",
  ]

  /// The template of this name; case is ignored, and `-` and `.` are the same as `_`.
  public init?(named name: String) {
    let key = Self.key(name)
    let canonicalKey = Self.aliases[key] ?? key
    guard let template = Self.named.first(where: { Self.key($0.name) == canonicalKey }) else { return nil }
    self = template
  }

  private static func key(_ name: String) -> String {
    String(name.lowercased().map { $0 == "-" || $0 == "." ? "_" : $0 })
  }

  // MARK: - Templates of the original code

  /// The template of LLaVA's evaluation scripts.
  public static let vicunaV1 = vicuna(
    name: "vicuna_v1",
    systemPrompt: """
      A chat between a curious user and an artificial intelligence assistant. \
      The assistant gives helpful, detailed, and polite answers to the user's questions.
      """)

  /// The template that LLaVA's interactive scripts choose for model names with `v1`.
  public static let llavaV1 = vicuna(
    name: "llava_v1",
    systemPrompt: """
      A chat between a curious human and an artificial intelligence assistant. \
      The assistant gives helpful, detailed, and polite answers to the human's questions.
      """)

  public static let mistralInstruct = llama2(name: "mistral_instruct", systemPrompt: "", userSeparator: "")

  /// The template of LLaVA-1.6-34B; the original code also calls it `mistral_direct`.
  public static let chatMLDirect = roleTurns(
    name: "chatml_direct", systemPrompt: "Answer the questions.", start: "<|im_start|>", header: "\n",
    end: "<|im_end|>")

  public static let llavaLlama2 = llama2(
    name: "llava_llama_2", systemPrompt: visionAssistant, userSeparator: "<s>")

  public static let llavaLlama3 = roleTurns(
    name: "llava_llama_3", systemPrompt: visionAssistant, start: "<|start_header_id|>",
    header: "<|end_header_id|>\n\n", end: "<|eot_id|>")

  /// The template of the LLaVA-NeXT models over Qwen1.5 and Qwen2.
  public static let qwen15 = roleTurns(
    name: "qwen_1_5", systemPrompt: "You are a helpful assistant.", start: "<|im_start|>", header: "\n",
    end: "<|im_end|>\n")

  /// The pretraining format: an image, then its caption.
  public static let plain = ours(
    name: "plain",
    """
    {%- for message in messages if message.role != 'system' -%}
      {{- content(message, image='<image>', end='\n') -}}
    {%- endfor -%}
    """)

  // MARK: - Templates of the converted checkpoints

  /// The template published with llava-1.5-7b-hf, which has no system prompt.
  public static let llava15HF = ours(
    name: "llava-1.5-hf",
    """
    {%- for message in messages -%}
      {{- {'system': '', 'user': 'USER: ', 'assistant': 'ASSISTANT: '}[message.role] -}}
      {{- content(message, end=' ') -}}
    {%- endfor -%}
    {{- 'ASSISTANT:' if add_generation_prompt -}}
    """)

  /// The system prompt of LLaVA over Llama-2 and Llama-3.
  private static let visionAssistant = """
    You are a helpful language and vision assistant. You are able to understand the visual content that the user \
    provides, and assist the user with a variety of tasks using natural language.
    """

  // MARK: - Families of templates

  private static func vicuna(name: String, systemPrompt: String) -> ChatTemplate {
    ours(
      name: name, systemPrompt: systemPrompt,
      """
      {{- system + ' ' if system -}}
      {%- for message in messages -%}
        {%- if message.role == 'user' -%}{{- 'USER: ' + content(message) + ' ' -}}
        {%- elif message.role == 'assistant' -%}{{- 'ASSISTANT: ' + content(message) + '</s>' -}}
        {%- else -%}{{- content(message) + ' ' -}}
        {%- endif -%}
      {%- endfor -%}
      {{- 'ASSISTANT:' if add_generation_prompt -}}
      """)
  }

  /// Turns in `[INST]`, with the system prompt in the first of them.
  private static func llama2(name: String, systemPrompt: String, userSeparator: String) -> ChatTemplate {
    ours(
      name: name, systemPrompt: systemPrompt,
      """
      {%- set first = namespace(system=system) -%}
      {%- for message in messages -%}
        {%- if message.role == 'user' -%}
          {{- ('' if loop.first else '\(userSeparator)') + '[INST] ' -}}
          {{- '<<SYS>>\n' + first.system + '\n<</SYS>>\n\n' if first.system -}}{%- set first.system = '' -%}
          {{- content(message) + ' [/INST]' -}}
        {%- elif message.role == 'assistant' -%}{{- ' ' + content(message) + ' </s>' -}}
        {%- else -%}{{- '<<SYS>>\n' + content(message) + '\n<</SYS>>\n\n' -}}
        {%- endif -%}
      {%- endfor -%}
      """)
  }

  /// Turns of a header with the role, the content and an end.
  private static func roleTurns(
    name: String, systemPrompt: String, start: String, header: String, end: String
  ) -> ChatTemplate {
    ours(
      name: name, systemPrompt: systemPrompt,
      """
      {{- '\(start)system\(header)' + system + '\(end)' if system -}}
      {%- for message in messages -%}
        {{- '\(start)' + message.role + '\(header)' + content(message) + '\(end)' -}}
      {%- endfor -%}
      {{- '\(start)assistant\(header)' if add_generation_prompt -}}
      """)
  }

  /// A named template: the texts of a message after its images are `content(message)`, and `system` is the text of a
  /// system message at the beginning or, without one, the default system prompt.
  private static func ours(name: String, systemPrompt: String? = nil, _ turns: String) -> ChatTemplate {
    let content = """
      {%- macro content(message, image='<image>\n', end='') -%}
        {%- for part in message.content if part.type in ['image', 'video'] -%}{{- image -}}{%- endfor -%}
        {%- for part in message.content if part.type == 'text' -%}{{- part.text + end -}}{%- endfor -%}
      {%- endmacro -%}

      """
    let system = systemPrompt.map { systemPrompt in
      """
      {%- if messages and messages[0].role == 'system' -%}
        {%- set system = content(messages[0]) -%}{%- set messages = messages[1:] -%}
      {%- else -%}
        {%- set system = "\(systemPrompt)" -%}
      {%- endif -%}

      """
    }
    do { return try ChatTemplate(name: name, source: content + (system ?? "") + turns) } catch {
      preconditionFailure("the named template \(name): \(error)")
    }
  }
}
