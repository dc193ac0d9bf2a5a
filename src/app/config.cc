// `sluice config`: every option with its value, where the value came from, default, unit and meaning.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/options.h"
#include "app/output.h"
#include "app/units.h"

namespace sluice::app {
namespace {

std::string Shown(const Option& option, const std::string& text) {
  if (option.unit == Unit::kBytes) {
    const auto bytes = ParseSize(text);
    return bytes.ok() ? FormatSize(*bytes) : text;
  }
  if (option.unit == Unit::kMilliseconds) return text + " ms";
  return text.empty() ? "-" : text;
}

absl::Status Config(Settings* settings, bool as_json) {
  RETURN_IF_ERROR(settings->resolved);
  Settings defaults;
  nlohmann::json json = nlohmann::json::array();
  if (!as_json)
    Print("{:<28}{:<24}{:<9}{:<18}{:<7}{}\n", "OPTION", "VALUE", "FROM", "DEFAULT", "UNIT", "MEANING");
  for (const Option& option : Options()) {
    const std::string value = ValueText(option, *settings);
    const std::string normal = ValueText(option, defaults);
    const auto source = settings->sources.find(option.name);
    const std::string from(SourceName(source == settings->sources.end() ? Source::kDefault : source->second));
    if (as_json) {
      json.push_back({{"name", option.name},
                      {"value", value},
                      {"from", from},
                      {"default", normal},
                      {"unit", std::string(UnitName(option.unit))},
                      {"meaning", option.meaning}});
      continue;
    }
    Print("{:<28}{:<24}{:<9}{:<18}{:<7}{}\n", option.name, Shown(option, value), from, Shown(option, normal),
          UnitName(option.unit), option.meaning);
  }
  if (as_json) Print("{}\n", json.dump(2));
  return absl::OkStatus();
}

}  // namespace

void AddConfig(CLI::App& app, Chosen* chosen) {
  auto settings = std::make_shared<Settings>();
  auto as_json = std::make_shared<bool>(false);
  CLI::App* command =
      NewCommand(app, "config", "Prints every option of a server, its value and where that came from",
                 "sluice config --config sluice.toml --json", chosen,
                 [settings, as_json] { return Config(settings.get(), *as_json); });
  command->add_flag("--json", *as_json, "For programs");
  AddOptionFlags(*command, settings.get());
}

}  // namespace sluice::app
