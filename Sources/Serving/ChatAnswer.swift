package import BatchInference
import LLaVA
import ModelFormats
package import PDrop
package import Storage

/// The answer to a chat request in OpenAI's form, whole or as the chunks of a stream.
///
/// It is made from the events of the service, one after the other.
package struct ChatAnswer {
  /// The identity of an answer, which all its chunks repeat.
  package struct Identity: Sendable {
    package var id: String
    /// Unix time in seconds.
    package var created: Int
    package var model: String

    package init(id: String, created: Int, model: String) { (self.id, self.created, self.model) = (id, created, model) }
  }

  private let identity: Identity
  private let request: ChatRequest
  private let model: VisionLanguageModel
  private var texts: [TrimmedText]
  private var hasBegun = false
  /// Number of answers that have ended.
  private var endedCount = 0
  /// The last chunk of the answer that ended last, which also has the costs.
  private var lastChunk: JSONValue?
  private var prefill: FinishedPrefill?

  package init(_ request: ChatRequest, _ identity: Identity, by model: VisionLanguageModel) {
    (self.identity, self.request, self.model) = (identity, request, model)
    texts = Array(repeating: TrimmedText(), count: request.request.options.answerCount)
  }

  /// The error for a request that has failed.
  package func error(_ failure: RecordFailure) -> APIError { APIError(failure, form: request.formField) }

  // MARK: - Stream

  /// The chunks for an event.
  ///
  /// - Throws: `APIError` for a request that has failed.
  package mutating func chunks(for event: InferenceService.Event) throws(APIError) -> [JSONValue] {
    switch event {
    case .progress(let progress):
      return request.returnsProgress ? [chunk([]).with("prompt_progress", json(progress))] : []
    case .prefilled(let prefill):
      self.prefill = prefill
      // Maps are known before the first token.
      return request.returnsMaps ? [chunk([]).with("pdrop", ["maps": maps])] : []
    case .text(let generated): return begin() + chunks(for: generated)
    case .finished(.failure(let failure), _): throw error(failure)
    case .finished(.success(let report), let times):
      guard let lastChunk else { preconditionFailure("every answer ends before its request") }
      var chunks: [JSONValue] = []
      chunks.append(lastChunk.with("timings", timings(report, times)).with("pdrop", dropping(report, hasMaps: false)))
      if request.includesUsage { chunks.append(chunk([]).with("usage", usage(report))) }
      return chunks
    }
  }

  /// The first chunk of every answer, once.
  private mutating func begin() -> [JSONValue] {
    guard !hasBegun else { return [] }
    hasBegun = true
    return texts.indices.map { chunk([choice($0, delta: ["role": "assistant", "content": ""])]) }
  }

  private mutating func chunks(for generated: GeneratedText) -> [JSONValue] {
    var chunks: [JSONValue] = []
    let text = texts[generated.answer].push(generated.text)
    if !text.isEmpty || generated.logprobs?.isEmpty == false {
      chunks.append(
        chunk([choice(generated.answer, delta: ["content": .string(text)], logprobs: generated.logprobs)]))
    }
    if let reason = generated.finishReason {
      endedCount += 1
      let last = chunk([choice(generated.answer, delta: [:], finishReason: reason)])
      if endedCount == texts.count { lastChunk = last } else { chunks.append(last) }
    }
    return chunks
  }

  private func chunk(_ choices: [JSONValue]) -> JSONValue { object("chat.completion.chunk", choices) }

  private func choice(
    _ index: Int, delta: JSONValue, logprobs: [TokenLogprob]? = nil, finishReason: RunReport.FinishReason? = nil
  ) -> JSONValue {
    let choice: JSONValue = ["index": .integer(index), "delta": delta]
    return choice.with("logprobs", logprobs.map { ["content": .encoding($0)] })
      .with("finish_reason", finishReason.map { .string($0.rawValue) } ?? .null)
  }

  // MARK: - Whole answer

  /// The whole answer, if an event is the last.
  ///
  /// - Throws: `APIError` for a request that has failed.
  package mutating func completion(for event: InferenceService.Event) throws(APIError) -> JSONValue? {
    switch event {
    case .progress, .text: return nil
    case .prefilled(let prefill):
      self.prefill = prefill
      return nil
    case .finished(.failure(let failure), _): throw error(failure)
    case .finished(.success(let report), let times): return completion(report, times)
    }
  }

  private func completion(_ report: RunReport, _ times: ServedTimes) -> JSONValue {
    var choices = [choice(0, report.text, report.logprobs, report.finishReason)]
    for (index, other) in (report.alternatives ?? []).enumerated() {
      choices.append(choice(1 + index, other.text, other.logprobs, other.finishReason))
    }
    return object("chat.completion", choices).with("usage", usage(report)).with("timings", timings(report, times))
      .with("pdrop", dropping(report, hasMaps: request.returnsMaps))
  }

  private func choice(
    _ index: Int, _ text: String, _ logprobs: [TokenLogprob]?, _ reason: RunReport.FinishReason?
  ) -> JSONValue {
    var trimmed = TrimmedText()
    let message: JSONValue = ["role": "assistant", "content": .string(trimmed.push(text))]
    let choice: JSONValue = ["index": .integer(index), "message": message]
    return choice.with("logprobs", logprobs.map { ["content": .encoding($0)] } ?? .null)
      .with("finish_reason", reason.map { .string($0.rawValue) } ?? .null)
  }

  private func object(_ kind: String, _ choices: [JSONValue]) -> JSONValue {
    [
      "id": .string(identity.id), "object": .string(kind), "created": .integer(identity.created),
      "model": .string(identity.model), "system_fingerprint": .string(ServerVersion.fingerprint),
      "choices": .array(choices),
    ]
  }

  // MARK: - Costs

  private func json(_ progress: PrefillProgress) -> JSONValue {
    let configuration = model.llava.configuration
    let layer = progress.layer
    let layers = layer.isVisionEncoder ? configuration.visionLayersNeeded : configuration.text.layerCount
    return [
      "phase": .string(layer.isVisionEncoder ? "vision_encoder" : "prefill"), "processed": .integer(layer.layer),
      "total": .integer(layers), "stage": .integer(layer.stage + 1), "time_ms": .rounded(1e3 * progress.seconds),
    ]
  }

  private func usage(_ report: RunReport) -> JSONValue {
    let (prompt, generated) = (report.sequenceLength, report.generatedTokenCount)
    return [
      "prompt_tokens": .integer(prompt), "completion_tokens": .integer(generated),
      "total_tokens": .integer(prompt + generated),
      "prompt_tokens_details": [
        "cached_tokens": .integer(prefill?.cachedTokens ?? 0), "image_tokens": .integer(imageTokens),
      ],
    ]
  }

  private var imageTokens: Int { prefill?.request.visualTokenCounts.reduce(0, +) ?? 0 }

  /// Times in milliseconds: ours, then those of llama.cpp.
  private func timings(_ report: RunReport, _ times: ServedTimes) -> JSONValue {
    let time = report.timings
    let prompt = time.encode + time.project + time.prefill + time.rank
    let (promptTokens, generated) = (report.sequenceLength, report.generatedTokenCount)
    // What the client sees, with all that goes on beside; `decode_ms` is the request's own part.
    let decode = 1e3 * (times.end - times.firstToken)
    let steps = generated - texts.count
    let cached = prefill?.cachedTokens ?? 0
    func rate(_ count: Int, _ milliseconds: Double) -> JSONValue {
      .rounded(milliseconds > 0 ? 1e3 * Double(count) / milliseconds : 0)
    }
    return [
      "queue_ms": .rounded(1e3 * times.queue), "image_ms": .rounded(time.decodeImage + time.preprocess),
      "vision_encoder_ms": .rounded(time.encode + time.project), "prefill_ms": .rounded(time.prefill),
      "ranking_ms": .rounded(time.rank), "decode_ms": .rounded(time.decode),
      "time_to_first_token_ms": .rounded(1e3 * times.firstToken),
      "cache_n": .integer(cached), "prompt_n": .integer(promptTokens - cached), "prompt_ms": .rounded(prompt),
      "prompt_per_token_ms": .rounded(prompt / Double(max(1, promptTokens - cached))),
      "prompt_per_second": rate(promptTokens - cached, prompt),
      "predicted_n": .integer(generated), "predicted_ms": .rounded(decode),
      "predicted_per_token_ms": .rounded(decode / Double(max(1, steps))),
      "predicted_per_second": rate(max(0, steps), decode),
    ]
  }

  /// The policy and what it saved, and the kept tokens and maps that the request asks for.
  private func dropping(_ report: RunReport, hasMaps: Bool) -> JSONValue {
    let result: JSONValue = [
      "policy": .encoding(report.policy),
      "visual_tokens_per_stage": .array(report.visualTokensPerStage.map(JSONValue.integer)),
      "flops": .integer(report.flops.prefill + report.flops.rank), "flops_baseline": .integer(report.baselineFlops),
    ]
    let kept: JSONValue = .array(
      report.stages.map { stage in .array(stage.images.map { .array($0.kept.map(JSONValue.integer)) }) })
    let selected = report.selection.map { selection in
      JSONValue.array(selection.images.map { .array($0.kept.map(JSONValue.integer)) })
    }
    return result.with("selected", request.returnsKept ? selected : nil)
      .with("kept", request.returnsKept ? kept : nil)
      .with("maps", hasMaps ? maps : nil)
  }

  private var maps: JSONValue { .array(KeptMapJSON.maps(prefill, model)) }
}

/// The version in answers.
package enum ServerVersion {
  package static let number = "0.1.0"
  package static let fingerprint = "pdrop-\(number)"
}
