internal import Kernels
internal import LLaVA
internal import ModelFormats

/// What a batch takes of memory and time, found on its first record that can be answered.
package struct BatchEstimate: Sendable {
  /// Layers that hold the same number of positions.
  package struct Stage: Sendable, Equatable {
    package var layers: ClosedRange<Int>
    /// Behind the prompt.
    package var positions: Int
    /// Keys and values of these layers, to the longest answer.
    package var bytes: Int
  }

  package var limitBytes: Int
  package var weightBytes: Int
  package var programBytes: Int
  /// Pictures that are kept to be asked about again, if each record has others.
  package var pictureBytes: Int
  package var workingBytes: Int
  package var stages: [Stage] = []
  package var promptTokens: Int
  package var tokenLimit: Int
  package var recordsAtATime: Int
  /// For pictures, the prompt, and a step of so many records, measured.
  package var pictureSeconds = 0.0
  package var promptSeconds = 0.0
  package var stepSeconds = 0.0

  /// Keys and values of a record.
  package var cacheBytes: Int { stages.reduce(0) { $0 + $1.bytes } }

  package var peakBytes: Int {
    weightBytes + programBytes + pictureBytes + workingBytes + recordsAtATime * cacheBytes
  }

  /// When every answer is as long as it may be.
  package var secondsPerRecord: Double {
    pictureSeconds + promptSeconds + Double(max(0, tokenLimit - 1)) * stepSeconds / Double(max(1, recordsAtATime))
  }
}

extension VisionLanguageModel {
  /// Plans a batch of records like the first of these that can be answered, and measures one of them.
  ///
  /// - Parameters:
  ///   - recordCount: How many records there are.
  ///   - measures: Whether times are measured; else they are zero.
  /// - Returns: `nil` when none can be answered.
  /// - Throws: `RecordFailure` when the record does not fit into memory.
  package func estimate(
    _ requests: [Request], recordCount: Int, _ options: EngineOptions, measures: Bool = true
  ) throws -> BatchEstimate? {
    let plan = MemoryPlan(self, limit: options.memoryLimit, batchSize: options.batchSize)
    let pictures = PictureCache(self, capacity: plan.pictures)
    let prepared = requests.lazy.compactMap { request in
      try? PreparedRequest(request, for: self, threads: options.threads) { picture, timings in
        try pictures.picture(picture, appliesOrientation: request.appliesOrientation, &timings)
      }
    }.first
    guard let prepared else { return nil }
    if let refusal = plan.refusal(prepared) { throw refusal }
    let working = plan.workingMemory(PromptSize(prepared)).total
    let cacheBytes = plan.cacheBytes(prepared)
    let pictureBytes = prepared.pictures.reduce(0) { $0 + $1.byteCount(columns: llava.configuration.text.hiddenSize) }
    let (kept, overflows) = pictureBytes.multipliedReportingOverflow(by: recordCount)
    var estimate = BatchEstimate(
      limitBytes: plan.limit, weightBytes: plan.weights, programBytes: MemoryPlan.program,
      pictureBytes: overflows ? plan.pictures : min(kept, plan.pictures), workingBytes: working,
      promptTokens: prepared.record.sequenceLength, tokenLimit: prepared.tokenLimit,
      recordsAtATime: min(options.batchSize, (plan.limit - plan.fixed - working) / cacheBytes))
    estimate.stages = stages(prepared)
    if measures { try measure(prepared, &estimate, plan, threads: options.threads) }
    return estimate
  }

  private func stages(_ prepared: PreparedRequest) -> [BatchEstimate.Stage] {
    var stages: [BatchEstimate.Stage] = []
    for (layer, positions) in prepared.rowsPerLayer.enumerated() {
      let bytes = KVCache.byteCount(
        rowsPerLayer: [positions + prepared.tokenLimit], llava.configuration.text, element: precision.cacheElement)
      if let last = stages.last, last.positions == positions {
        stages[stages.count - 1].layers = last.layers.lowerBound...layer + 1
        stages[stages.count - 1].bytes += bytes
      } else {
        stages.append(.init(layers: layer + 1...layer + 1, positions: positions, bytes: bytes))
      }
    }
    return stages
  }

  /// Reads the prompt twice, as the first time brings weights from the disk, and decodes copies of it together.
  private func measure(
    _ prepared: PreparedRequest, _ estimate: inout BatchEstimate, _ plan: MemoryPlan, threads: Int
  ) throws {
    let steps = 3
    let compute = Compute(workers: Workers(count: threads))
    var reader = PromptReader(self, plan)
    let first = try reader.prefilled(prepared, before: { [] }, on: compute)
    let time = first.record.milliseconds
    estimate.pictureSeconds = (time.decodeImage + time.preprocess + time.encode + time.project) / 1e3
    let second = try reader.prefilled(prepared, before: { [] }, on: compute)
    estimate.promptSeconds = (second.record.milliseconds.prefill + second.record.milliseconds.rank) / 1e3

    let rows = estimate.promptTokens + steps + 1
    let caches = (0..<estimate.recordsAtATime).map { _ in second.cache.copy(rows: rows) }
    var start = ContinuousClock.now
    for step in 0...steps {
      if step == 1 { start = ContinuousClock.now }
      llava.languageModel.embed(Array(repeating: 0, count: caches.count), into: &reader.state.hidden)
      llava.languageModel.decode(&reader.state, caches, on: compute)
      _ = llava.languageModel.logits(reader.state.hidden, on: compute)
    }
    estimate.stepSeconds = (ContinuousClock.now - start).milliseconds / 1e3 / Double(steps)
  }
}
