import BatchInference
import PDrop
import Synchronization

/// The text format of Prometheus, version 0.0.4.
struct PrometheusText {
  private(set) var text = ""

  mutating func counter(_ name: String, _ help: String, _ value: Double) {
    sample(name, "counter", help, [("", value)])
  }
  mutating func gauge(_ name: String, _ help: String, _ value: Double) { sample(name, "gauge", help, [("", value)]) }

  /// A counter with a label, whose values are numbers or names of this program.
  mutating func counters(_ name: String, _ help: String, label: String, _ values: [(String, Double)]) {
    sample(name, "counter", help, values.map { ("{\(label)=\"\($0.0)\"}", $0.1) })
  }

  mutating func histogram(_ name: String, _ help: String, _ histogram: Histogram) {
    let values = histogram.snapshot
    head(name, "histogram", help)
    for (bound, count) in zip(histogram.bounds, values.counts) {
      text += "\(name)_bucket{le=\"\(Self.number(bound))\"} \(count)\n"
    }
    let total = values.counts[values.counts.count - 1]
    text += "\(name)_bucket{le=\"+Inf\"} \(total)\n\(name)_sum \(Self.number(values.sum))\n\(name)_count \(total)\n"
  }

  private mutating func sample(_ name: String, _ kind: String, _ help: String, _ values: [(String, Double)]) {
    head(name, kind, help)
    for (labels, value) in values { text += "\(name)\(labels) \(Self.number(value))\n" }
  }

  private mutating func head(_ name: String, _ kind: String, _ help: String) {
    text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind)\n"
  }

  /// A number in decimal, integers without a point.
  private static func number(_ value: Double) -> String {
    value == value.rounded() && abs(value) < 1e15 ? "\(Int(value))" : "\(value)"
  }
}

extension InferenceService {
  /// The metrics in the text format of Prometheus. Names without a counterpart in llama.cpp or vLLM are ours.
  package var prometheusText: String {
    var text = PrometheusText()
    let load = load
    text.gauge("pdrop:requests_processing", "Requests that are being answered.", Double(load.processing))
    text.gauge("pdrop:requests_deferred", "Requests that wait in the queue.", Double(load.waiting))
    text.counters(
      "pdrop:request_success_total", "Answered requests by the reason for their end; error for failed ones.",
      label: "finished_reason",
      metrics.finished.withLock { $0.sorted { $0.key < $1.key }.map { ($0.key, Double($0.value)) } })
    text.counter(
      "pdrop:requests_cancelled_total", "Requests whose client left, or that took longer than --timeout.",
      Double(metrics.cancelled.value))
    text.counter(
      "pdrop:prompt_tokens_total", "Tokens of the prompts, images included.", Double(metrics.promptTokens.value))
    text.counter(
      "pdrop:prompt_tokens_cached_total", "Tokens of the prompts that were in a cache.",
      Double(metrics.cachedTokens.value))
    text.counter("pdrop:tokens_predicted_total", "Generated tokens.", Double(metrics.generatedTokens.value))
    addImages(&text)
    addTimes(&text)
    return text.text
  }

  private func addImages(_ text: inout PrometheusText) {
    text.counter("pdrop:image_tokens_total", "Visual tokens of the prompts.", Double(metrics.imageTokens.value))
    text.counters(
      "pdrop:image_tokens_per_stage_total", "Visual tokens of the prompts in each stage of the decoder, from 1.",
      label: "stage",
      metrics.stageTokens.withLock { $0.enumerated().map { ("\($0 + 1)", Double($1)) } })
    text.counter(
      "pdrop:image_tokens_dropped_total", "Visual tokens that were dropped in some stage.",
      Double(metrics.imageTokens.value - metrics.keptImageTokens.value))
    let reuse = metrics.engine.withLock { $0.reuse }
    text.counter("pdrop:images_total", "Images of the prompts.", Double(reuse.imagesRequested))
    text.counter(
      "pdrop:image_cache_hits_total", "Images that were not encoded, as they or their prompts were in a cache.",
      Double(reuse.imagesRequested - reuse.imagesEncoded))
    text.counter("pdrop:prefix_cache_hits_total", "Prompts whose prefix was in memory.", Double(reuse.prefixCacheHits))
    text.counter(
      "pdrop:prefill_flops_total", "Operations of the decoder's prefills, as if nothing had been cached.",
      Double(metrics.prefillFlops.value))
    text.counter(
      "pdrop:prefill_flops_saved_total", "Operations of prefills that dropping saved, as if nothing had been cached.",
      Double(metrics.savedFlops.value)
    )
  }

  private func addTimes(_ text: inout PrometheusText) {
    let seconds = metrics.phaseSeconds.withLock { $0 }
    text.counter("pdrop:vision_encoder_seconds_total", "Time of vision encoder and projector.", seconds.visionEncoder)
    text.counter("pdrop:prompt_seconds_total", "Time of the decoder's prefills, ranking included.", seconds.prefill)
    text.counter("pdrop:tokens_predicted_seconds_total", "Time of decoding, per request.", seconds.decode)
    for (name, help, histogram) in [
      ("time_to_first_token_seconds", "Time from arrival to the first token.", metrics.firstTokenSeconds),
      ("inter_token_latency_seconds", "Time between the tokens of an answer.", metrics.interTokenSeconds),
      ("e2e_request_latency_seconds", "Time from arrival to the end of the answer.", metrics.requestSeconds),
      ("request_queue_time_seconds", "Time from arrival to the beginning of the prefill.", metrics.queueSeconds),
      ("request_prefill_time_seconds", "Time of vision encoder and prefill.", metrics.prefillSeconds),
      ("request_decode_time_seconds", "Time of decoding.", metrics.decodeSeconds),
      ("request_prompt_tokens", "Tokens of a prompt.", metrics.requestPromptTokens),
      ("request_generation_tokens", "Generated tokens of a request.", metrics.requestGeneratedTokens),
    ] {
      text.histogram("pdrop:\(name)", help, histogram)
    }
  }
}
