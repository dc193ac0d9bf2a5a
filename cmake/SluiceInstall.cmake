# `cmake --install`: public headers, libsluice static and shared, a CMake package and a pkg-config file.
#
# Included once the target `sluice_library` exists. It is an INTERFACE target that names, by linking to them, the
# rooms that the public headers need: their objects become one archive and one shared library, both called sluice.
# tcmalloc is not among them: a library does not choose its host's allocator.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# Every room and generated library that `target` links, directly or not, into `out`; foreign ones into `foreign`.
function(sluice_closure target out foreign)
  set(todo ${target})
  set(ours)
  set(theirs)
  while(todo)
    list(POP_FRONT todo next)
    if(next IN_LIST ours OR next IN_LIST theirs OR next STREQUAL sluice_flags OR next MATCHES "^\\$<|^::@")
      continue()
    endif()
    if(TARGET ${next} AND next MATCHES "^sluice_")
      list(APPEND ours ${next})
      get_target_property(links ${next} INTERFACE_LINK_LIBRARIES)
      if(links)
        list(APPEND todo ${links})
      endif()
    else()
      list(APPEND theirs ${next})
    endif()
  endwhile()
  list(REMOVE_ITEM ours ${target})
  set(${out} ${ours} PARENT_SCOPE)
  set(${foreign} ${theirs} PARENT_SCOPE)
endfunction()

sluice_closure(sluice_library SLUICE_PARTS SLUICE_FOREIGN)
set(objects)
foreach(part ${SLUICE_PARTS})
  get_target_property(type ${part} TYPE)
  if(type STREQUAL "STATIC_LIBRARY")
    list(APPEND objects $<TARGET_OBJECTS:${part}>)
  endif()
endforeach()

foreach(kind static shared)
  string(TOUPPER ${kind} KIND)
  add_library(sluice_${kind} ${KIND} ${objects})
  set_target_properties(sluice_${kind} PROPERTIES OUTPUT_NAME sluice EXPORT_NAME ${kind} LINKER_LANGUAGE CXX)
  target_compile_features(sluice_${kind} INTERFACE cxx_std_20)
  target_include_directories(sluice_${kind} INTERFACE
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/sluice/detail>)
endforeach()
set_target_properties(sluice_shared PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
target_link_libraries(sluice_static PUBLIC ${SLUICE_FOREIGN})
# Users of the shared library see Abseil and fmt through our headers; the rest is its own business.
set(visible ${SLUICE_FOREIGN})
list(FILTER visible INCLUDE REGEX "^(absl::|fmt::)")
set(hidden ${SLUICE_FOREIGN})
list(FILTER hidden EXCLUDE REGEX "^(absl::|fmt::)")
target_link_libraries(sluice_shared PUBLIC ${visible} PRIVATE ${hidden})

install(TARGETS sluice_static sluice_shared EXPORT sluiceTargets)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/sluice DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
# The public headers name types of base (and of nothing else): "base/bytes.h" is found under sluice/detail.
install(DIRECTORY ${CMAKE_SOURCE_DIR}/src/base DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/sluice/detail
  FILES_MATCHING PATTERN "*.h")
if(TARGET sluice)
  install(TARGETS sluice)
endif()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/sluice)
install(EXPORT sluiceTargets NAMESPACE sluice:: DESTINATION ${package_dir})
configure_package_config_file(${CMAKE_SOURCE_DIR}/cmake/sluiceConfig.cmake.in ${CMAKE_BINARY_DIR}/sluiceConfig.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/sluiceConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/sluiceConfig.cmake ${CMAKE_BINARY_DIR}/sluiceConfigVersion.cmake
  DESTINATION ${package_dir})

configure_file(${CMAKE_SOURCE_DIR}/cmake/sluice.pc.in ${CMAKE_BINARY_DIR}/sluice.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/sluice.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
