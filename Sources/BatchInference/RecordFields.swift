import PDrop
import Storage

/// The fields of records that are not read, by their effect on an answer.
///
/// A field that would change the answer is an error of the record, because the answer would be to another question than
/// the record has. Notes about a record, such as its source, are ignored.
enum RecordFields {
  /// Rejects fields of a LLaVA question that would change its answer.
  ///
  /// - Throws: `RecordFailure`.
  static func checkQuestion(_ question: JSONValue) throws(RecordFailure) {
    let hasImage = !MessageFields.isAbsent(question["image"])
    for member in question.members ?? [] where !isRead(member, questionFields) {
      let isImage =
        hasImage
        ? MessageFields.isOtherSpellingOfImage(member.key)
        : MessageFields.isImage(member.key) || !isRead(member, questionNotes) && MessageFields.hasImage(member.value)
      if isImage, !MessageFields.isAbsent(member.value) {
        throw RecordFailure(
          .unsupportedOption,
          "the field \(member.key.excerpt) may have an image, and is not read; give images as \"image\"")
      }
      if changesAnswer(member) {
        throw RecordFailure(
          .unsupportedOption, "the field \(member.key.excerpt) is not supported in a LLaVA question; leave it out")
      }
    }
  }

  /// Rejects fields next to the body of a completion request that belong in it.
  ///
  /// - Throws: `RecordFailure`.
  static func checkEnvelope(_ request: JSONValue) throws(RecordFailure) {
    let readsImages = MessageFields.readsImages(request["body"])
    for member in request.members ?? [] where !isRead(member, ["custom_id", "method", "url", "body"]) {
      let isImage =
        MessageFields.isImage(member.key)
        || !isRead(member, questionNotes) && !readsImages && MessageFields.hasImage(member.value)
      guard isImage && !MessageFields.isAbsent(member.value) || changesAnswer(member) else { continue }
      throw RecordFailure(
        .unsupportedOption, "the field \(member.key.excerpt) is not read next to body; move it into body")
    }
  }

  /// Rejects fields in the body of a completion request that are neither read nor known to leave the answer as it is.
  ///
  /// - Parameters:
  ///   - place: The name of the body in error messages.
  ///   - ignoresUnknown: Whether fields that are not known to change an answer are ignored.
  /// - Throws: `RecordFailure`.
  static func checkBody(_ body: JSONValue, place: String?, ignoresUnknown: Bool) throws(RecordFailure) {
    let readsImages = MessageFields.readsImages(body)
    for member in body.members ?? [] where !isRead(member, ["messages"]) && !isRead(member, bodyOptions) {
      guard !member.value.isNull, !isRead(member, bodyNotes) else { continue }
      if let neutral = neutralValues[member.key], neutral.matches(member.value) { continue }
      if ignoresUnknown, !isKnownToChangeAnswer(member) {
        guard !readsImages, MessageFields.hasEncodedImage(member.value) else { continue }
      }
      let field = "the field \(member.key.excerpt) is not supported; leave it out"
      throw RecordFailure(.unsupportedOption, place.map { "\($0): \(field)" } ?? field)
    }
  }

  /// Notes of questions that may name an image without meaning it.
  private static let questionNotes: [String] = [
    "id", "answer", "answers", "label", "labels", "gt", "ground_truth", "source", "split", "options", "choices",
    "metadata",
  ]

  private static let questionFields: [String] = ["question_id", "image", "text", "category", "score_choices"]

  /// The options of a body that are honoured.
  static let bodyOptions: [String] = [
    "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "repeat_penalty",
    "repetition_penalty", "repeat_last_n", "presence_penalty", "frequency_penalty", "logit_bias", "stop", "logprobs",
    "top_logprobs", "n", "ignore_eos", "response_format", "guided_json", "guided_choice", "guided_regex", "json_schema",
    "structured_outputs",
  ]

  /// The fields of a body that do not change an answer.
  private static let bodyNotes: [String] = [
    "model", "user", "metadata", "store", "stream_options", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "parallel_tool_calls", "request_id", "priority", "cache_salt",
  ]

  /// Whether a field that is not read would change an answer, or bring an image that is not looked at.
  private static func isKnownToChangeAnswer(_ member: JSONValue.Member) -> Bool {
    if MessageFields.isAbsent(member.value) || member.value.string == "" { return false }
    if neutralValues[member.key] != nil || refusedNames.contains(member.key) { return true }
    let name = MessageFields.words(of: member.key).joined()
    return MessageFields.isOtherSpellingOfImage(member.key) || optionNames.contains(name)
  }

  /// Options of llama.cpp, vLLM and OpenAI that change an answer, and those of `pdrop` in the wrong place.
  private static let refusedNames: Set<String> = [
    "grammar", "guided_grammar", "guided_decoding_backend", "mirostat", "dry_multiplier", "xtc_probability",
    "top_n_sigma", "dynatemp_range", "typ_p", "tfs_z", "truncate_prompt_tokens", "lora", "samplers", "n_keep",
    "t_max_predict_ms", "prediction", "verbosity", "web_search_options", "rank",
  ]

  private static func isRead(_ member: JSONValue.Member, _ names: [String]) -> Bool {
    names.contains { $0.utf8.elementsEqual(member.key.utf8) }
  }

  /// Whether a field outside of a body is an option of generation, or a part of the prompt, in any spelling; `pdrop`, the
  /// policy in a body of the server, is one too.
  private static func changesAnswer(_ member: JSONValue.Member) -> Bool {
    let name = MessageFields.words(of: member.key).joined()
    guard !member.value.isNull, optionNames.contains(name) || name == "pdrop" else { return false }
    return !(neutralValues[member.key] ?? .empty).matches(member.value)
  }

  /// Names of options and of parts of a prompt, in lower case without underscores.
  private static let optionNames: Set<String> = Set(
    (bodyOptions + neutralValues.keys + promptFields).map { MessageFields.words(of: $0).joined() })

  private static let promptFields: [String] = [
    "messages", "conversation", "conversations", "history", "prompt", "system", "system_prompt", "chat_template",
    "conv_mode", "max_new_tokens", "max_length", "n_predict", "stop_sequences", "stopping_criteria",
    "generation_config", "sampling_params", "reasoning_effort", "policy", "image_mode", "lambda", "layer_list",
    "image_token_ratio_list", "fastv_k", "fastv_r", "target_tokens", "target_flops", "target_kv", "target_ttft",
    "mask_padding", "stages", "recipe", "preselect", "preselect_tokens", "preselect_share", "preselect_budget",
    "preselect_packing", "num_return_sequences", "num_predict", "max_tiles",
  ]
}

extension RecordFields {
  /// The value with which an unsupported option leaves an answer as it is.
  private enum Neutral {
    case bool(Bool)
    case number(Double)
    case empty
    case words([String])
    /// `{"type": "text"}`.
    case textFormat
    /// `["text"]`.
    case textList

    func matches(_ value: JSONValue) -> Bool {
      switch (self, value) {
      case (_, .null): true
      case (.bool(let neutral), .bool(let value)): value == neutral
      case (.number(let neutral), .integer(let value)): Double(value) == neutral
      case (.number(let neutral), .number(let value)): value == neutral
      case (.words(let words), .string(let word)): words.contains(word)
      case (.textFormat, .object(let members)): members.isEmpty || value["type"].string == "text"
      case (.textList, .array(let values)): values.allSatisfy { $0.string == "text" }
      case (.empty, .array(let values)): values.isEmpty
      case (.empty, .object(let members)): members.isEmpty
      default: false
      }
    }
  }

  /// Options of OpenAI, vLLM and transformers, with the values that change nothing where an option is not read.
  private static let neutralValues: [String: Neutral] = [
    "add_generation_prompt": .bool(true), "add_special_tokens": .bool(false), "allowed_token_ids": .empty,
    "audio": .empty, "bad_words": .empty, "best_of": .number(1), "chat_template_kwargs": .empty,
    "continue_final_message": .bool(false), "detokenize": .bool(true), "do_sample": .bool(false),
    "documents": .empty, "early_stopping": .bool(false), "echo": .bool(false), "frequency_penalty": .number(0),
    "function_call": .words(["none", "auto"]), "functions": .empty, "guided_choice": .empty, "guided_json": .empty,
    "guided_regex": .words([""]), "json_schema": .empty, "structured_outputs": .empty,
    "include_stop_str_in_output": .bool(false), "length_penalty": .number(1), "logit_bias": .empty,
    "logits_processors": .empty, "logprobs": .bool(false), "min_p": .number(0), "min_tokens": .number(0),
    "mm_processor_kwargs": .empty, "modalities": .textList, "n": .number(1), "no_repeat_ngram_size": .number(0),
    "num_beams": .number(1), "presence_penalty": .number(0), "prompt_logprobs": .number(0),
    "repeat_penalty": .number(1), "repetition_penalty": .number(1), "response_format": .textFormat,
    "return_token_ids": .bool(false), "skip_special_tokens": .bool(true), "spaces_between_special_tokens": .bool(true),
    "stop": .empty, "stop_token_ids": .empty, "stream": .bool(false), "suffix": .words([""]),
    "tool_choice": .words(["none", "auto"]), "tools": .empty, "top_logprobs": .number(0), "typical_p": .number(1),
    "use_beam_search": .bool(false),
  ]
}
