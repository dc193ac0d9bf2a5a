# sluice_room(NAME DEPS ... LIBS ... APART ...): one folder = one namespace = one static library `sluice_NAME`.
#
# Sources are every .cc of the folder; *_test.cc make the test program `NAME_test`, *_fuzz.cc one fuzzer each
# (preset `fuzz`), *_bench.cc are left to bench/. DEPS are other rooms, LIBS are third-party targets.
# APART are sources whose anonymous names another one has too: they are compiled by themselves under SLUICE_UNITY.

add_library(sluice_flags INTERFACE)
target_compile_options(sluice_flags INTERFACE -Wall -Wextra -Wshadow -Wconversion -Werror -fno-omit-frame-pointer)
target_include_directories(sluice_flags INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
if(SLUICE_SANITIZE)
  # Without vptr: that check asks the kernel through a pipe, so a process without descriptors (F-14) fails it.
  target_compile_options(sluice_flags INTERFACE -fsanitize=${SLUICE_SANITIZE} -fno-sanitize=vptr
                                                -fno-sanitize-recover=all)
  target_link_options(sluice_flags INTERFACE -fsanitize=${SLUICE_SANITIZE})
  if(SLUICE_SANITIZE STREQUAL "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # g++ sees uninitialised members behind the sanitizer's calls, where there are none.
    target_compile_options(sluice_flags INTERFACE -Wno-maybe-uninitialized)
  endif()
endif()
if(SLUICE_BREAK)
  string(TOUPPER "SLUICE_BREAK_${SLUICE_BREAK}" break_macro)
  string(REPLACE "-" "_" break_macro ${break_macro})
  target_compile_definitions(sluice_flags INTERFACE ${break_macro})
endif()

# The ring of unit tests: what the sanitizer builds build and run. Rooms that talk gRPC stay out: compiling them
# again with sanitizers would cost more minutes than the rest of the ring together.
add_custom_target(unit_tests)
add_custom_target(fuzzers)
set(SLUICE_UNIT_ROOMS base env wire raft log blob node)

function(sluice_room name)
  cmake_parse_arguments(ROOM "" "" "DEPS;LIBS;APART" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  set(fuzzers ${sources})
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_(test|fuzz|bench)\\.cc$")

  add_library(sluice_${name} STATIC ${sources})
  if(SLUICE_UNITY)
    set_target_properties(sluice_${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${SLUICE_UNITY})
    list(TRANSFORM ROOM_APART PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
    set_source_files_properties(${ROOM_APART} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    # Every source is an included file then, which g++ takes for a header.
    target_compile_options(sluice_${name} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
  endif()
  list(TRANSFORM ROOM_DEPS PREPEND sluice_)
  target_link_libraries(sluice_${name} PUBLIC ${ROOM_DEPS} ${ROOM_LIBS} PRIVATE sluice_flags)
  target_include_directories(sluice_${name} PUBLIC
    $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/src> $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>)

  if(SLUICE_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE sluice_${name} sluice_flags GTest::gmock GTest::gtest_main)
    target_compile_definitions(${name}_test PRIVATE SLUICE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    gtest_discover_tests(${name}_test DISCOVERY_MODE PRE_TEST PROPERTIES LABELS unit)
    if(name IN_LIST SLUICE_UNIT_ROOMS)
      add_dependencies(unit_tests ${name}_test)
    endif()
  endif()
  if(SLUICE_FUZZ)
    foreach(fuzzer ${fuzzers})
      get_filename_component(target ${fuzzer} NAME_WE)
      add_executable(${target} ${fuzzer})
      target_compile_options(${target} PRIVATE -fsanitize=fuzzer)
      target_link_options(${target} PRIVATE -fsanitize=fuzzer)
      target_link_libraries(${target} PRIVATE sluice_${name} sluice_flags)
      add_dependencies(fuzzers ${target})
    endforeach()
  endif()
endfunction()
