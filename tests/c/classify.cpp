// Runs a network that slimnet exported with ONNX Runtime's C++ API.
//
//   c++ -std=c++17 classify.cpp -I$ORT_ROOT/include -L$ORT_ROOT/lib -lonnxruntime -Wl,-rpath,$ORT_ROOT/lib -o classify
//   ./classify model.onnx input.f32
//
// ORT_ROOT: an unpacked release of ONNX Runtime. input.f32: N images as raw float32, (N, C, H, W).
// Prints the N rows of logits.

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <functional>
#include <iterator>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

static std::vector<float> read_floats(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(std::string(path) + " cannot be read.");
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<float> values(bytes.size() / sizeof(float));
  std::copy_n(bytes.begin(), values.size() * sizeof(float), reinterpret_cast<char*>(values.data()));
  return values;
}

static void classify(const char* model, std::vector<float> pixels) {
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "classify");
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);
  Ort::Session session(env, model, options);

  // The file says (batch, C, H, W); the batch is dynamic and given as -1.
  std::vector<int64_t> shape = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
  const int64_t image = std::accumulate(shape.begin() + 1, shape.end(), int64_t{1}, std::multiplies<>());
  shape[0] = static_cast<int64_t>(pixels.size()) / image;
  if (shape[0] == 0 || shape[0] * image != static_cast<int64_t>(pixels.size()))
    throw std::runtime_error("the input is not a whole number of images of " + std::to_string(image) + " values.");

  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const auto input = Ort::Value::CreateTensor<float>(memory, pixels.data(), pixels.size(), shape.data(), shape.size());
  const char* input_names[] = {"input"};
  const char* output_names[] = {"logits"};
  const auto outputs = session.Run(Ort::RunOptions{}, input_names, &input, 1, output_names, 1);

  const int64_t classes = outputs[0].GetTensorTypeAndShapeInfo().GetShape()[1];
  const float* logits = outputs[0].GetTensorData<float>();
  for (int64_t i = 0; i < shape[0] * classes; ++i) std::printf("%.9g%c", logits[i], (i + 1) % classes ? ' ' : '\n');
}

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: classify MODEL INPUT\n");
    return 2;
  }
  try {
    classify(argv[1], read_floats(argv[2]));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
