import BatchInference
import LLaVA
import ModelFormats
package import PDrop
package import Storage
import Tokenizers

/// The answers about a model: its description, its tokenizer and its chat template.
package struct ModelRoutes: Sendable {
  private let service: InferenceService
  private let base: Request
  private let access: ImageAccess
  /// The path of the model, as given to the server.
  private let path: String
  /// Unix time in seconds at which the model was loaded.
  private let created: Int

  /// - Parameter base: Policy and options where a request has none.
  package init(_ service: InferenceService, like base: Request, _ access: ImageAccess, path: String, created: Int) {
    (self.service, self.base, self.access) = (service, base, access)
    (self.path, self.created) = (path, created)
  }

  private var model: VisionLanguageModel { service.model }
  private var hasVision: Bool { model.preprocessor != nil }

  /// `GET /v1/models`.
  package var models: JSONValue { ["object": "list", "data": [description]] }

  /// `GET /v1/models/{id}`.
  ///
  /// - Throws: `APIError` for another model.
  package func model(_ id: String) throws(APIError) -> JSONValue {
    guard id == model.name else {
      throw .notFound("there is no model \(id.excerpt) here; the server has \(model.name.excerpt)")
    }
    return description
  }

  private var description: JSONValue {
    let text = model.llava.configuration.text
    return [
      "id": .string(model.name), "object": "model", "created": .integer(created), "owned_by": "swift-pyramid-drop",
      "architecture": [
        "input_modalities": hasVision ? ["text", "image"] : ["text"], "output_modalities": ["text"],
      ],
      "meta": [
        "n_vocab": .integer(text.vocabularySize), "n_ctx_train": .integer(text.contextLength),
        "n_embd": .integer(text.hiddenSize), "size": .integer(model.weightBytes),
      ],
    ]
  }

  /// `GET /props`.
  package var properties: JSONValue {
    [
      "default_generation_settings": [
        "n_ctx": .integer(base.options.contextLength ?? model.contextLength),
        "policy": ((try? RunReport.Policy(base.policy, layerCount: model.layerCount)).map { .encoding($0) }) ?? .null,
        "max_tokens": .integer(base.options.maxTokens), "temperature": .finite(base.options.temperature),
        "top_k": .integer(base.options.topK), "top_p": .finite(base.options.topP),
      ],
      "total_slots": .integer(service.options.engine.batchSize), "model_path": .string(path),
      "model_name": .string(model.name), "n_layers": .integer(model.layerCount),
      "policies": ["none", "pyramiddrop", "fastv", "random", "uniform"],
      "chat_template": .string(model.template.source), "modalities": ["vision": .bool(hasVision)],
      "media_marker": "<image>", "precision": .string(model.precision.name),
      "build_info": .string(ServerVersion.number), "is_sleeping": false,
    ]
  }

  /// `GET /slots`.
  package var slots: JSONValue {
    .array(
      service.slots.enumerated().map { index, slot in
        [
          "id": .integer(index), "id_task": .integer(slot.request ?? -1),
          "n_ctx": .integer(base.options.contextLength ?? model.contextLength),
          "is_processing": .bool(slot.request != nil),
          "n_prompt_tokens": .integer(slot.promptTokens),
          "next_token": [
            "has_next_token": .bool(slot.request != nil), "n_decoded": .integer(slot.generatedTokens),
            "n_remain": .integer(max(0, slot.maxNewTokens - slot.generatedTokens)),
          ],
        ]
      })
  }

  /// The maximum text of `tokenize`, in bytes.
  private static let textLimit = 256 << 10

  /// The bytes that `tokenize` takes for a body, the answer included.
  ///
  /// - Throws: `APIError` for a body without text, or with too much.
  package static func tokenizingByteCount(_ body: JSONValue) throws(APIError) -> Int {
    // A token may have one byte. With its piece it is an object.
    try text(of: body).utf8.count * (ChatRequest.flag(body, "with_pieces") ? 320 : 64)
  }

  private static func text(of body: JSONValue) throws(APIError) -> String {
    try ChatRequest.checkIsObject(body)
    guard let text = body["content"].string else {
      throw .invalid("content: expected a string, found \(body["content"].excerpt)", parameter: "content")
    }
    guard text.utf8.count <= textLimit else {
      throw .invalid("content: \(text.utf8.count) bytes, expected at most \(textLimit)", parameter: "content")
    }
    return text
  }

  /// `POST /tokenize`.
  ///
  /// - Throws: `APIError` for a body without text, or with too much.
  package func tokenize(_ body: JSONValue) throws(APIError) -> JSONValue {
    let text = try Self.text(of: body)
    let (addsSpecial, hasPieces) = (
      try ChatRequest.flag(body, "add_special"), try ChatRequest.flag(body, "with_pieces")
    )
    let tokenizer = model.tokenizer
    let start = addsSpecial && tokenizer.addsBOSToken ? tokenizer.bosToken : nil
    let ids = (start.map { [$0] } ?? []) + tokenizer.encode(text)
    guard hasPieces else { return ["tokens": .array(ids.map { .integer(Int($0)) })] }
    let pieces = zip(ids, tokenizer.pieces(of: ids)).map { id, piece -> JSONValue in
      ["id": .integer(Int(id)), "piece": piece.map(JSONValue.string) ?? .null]
    }
    return ["tokens": .array(pieces)]
  }

  /// `POST /detokenize`.
  ///
  /// - Throws: `APIError` for a body without tokens, or with one outside the vocabulary.
  package func detokenize(_ body: JSONValue) throws(APIError) -> JSONValue {
    try ChatRequest.checkIsObject(body)
    let size = model.tokenizer.vocabularySize
    let tokens = body["tokens"].array?.compactMap(\.integer) ?? []
    guard let values = body["tokens"].array, values.count == tokens.count,
      tokens.allSatisfy({ (0..<size).contains($0) })
    else {
      throw .invalid("tokens: expected a list of token ids from 0 to \(size - 1)", parameter: "tokens")
    }
    return ["content": .string(model.tokenizer.decode(tokens.map(Int32.init), skipSpecialTokens: false))]
  }

  /// `POST /apply-template`.
  ///
  /// - Throws: `APIError` for messages that the template refuses.
  package func applyTemplate(_ body: JSONValue) throws(APIError) -> JSONValue {
    let request = try ChatRequest(body, like: base, access.withoutReading, layerCount: model.layerCount)
    do {
      return ["prompt": .string(try model.rendered(request.request.prompt, systemPrompt: base.systemPrompt))]
    } catch {
      throw APIError(RecordFailure(error))
    }
  }
}
